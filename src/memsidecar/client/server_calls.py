"""The calls about the server itself, and how their answers are read."""

from __future__ import annotations

from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from memsidecar.client.calls import Call
from memsidecar.client.messages import read_model
from memsidecar.client.server import ServerInfo
from memsidecar.v1 import administration_pb2 as pb
from memsidecar.v1.administration_pb2_grpc import AdministrationServiceStub


def health(service: str) -> Call[bool]:
    """Describe ``grpc.health.v1.Health/Check``."""
    return Call(
        HealthStub,
        "Check",
        health_pb2.HealthCheckRequest(service=service),
        lambda response: bool(response.status == health_pb2.HealthCheckResponse.SERVING),
    )


def server_info() -> Call[ServerInfo]:
    """Describe GetServerInfo."""
    return Call(AdministrationServiceStub, "GetServerInfo", pb.GetServerInfoRequest(), _read_info)


def _read_info(message: pb.GetServerInfoResponse) -> ServerInfo:
    return ServerInfo(
        version=message.version,
        model=read_model(message.model),
        postgres_version=message.postgres_version,
        pgvector_version=message.pgvector_version,
        schema_revision=message.schema_revision,
        tenant_id=message.tenant_id,
        rights=tuple(pb.Right.Name(right).removeprefix("RIGHT_").lower() for right in message.rights),
    )
