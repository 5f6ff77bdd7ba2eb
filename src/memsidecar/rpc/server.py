"""The gRPC server: services, reflection, health, and where it listens."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from memsidecar.domain.errors import Problem, SetupError
from memsidecar.rpc.draining_interceptor import DrainingInterceptor
from memsidecar.rpc.error_interceptor import ErrorInterceptor
from memsidecar.rpc.health import HealthMonitor
from memsidecar.rpc.observing_interceptor import ObservingInterceptor
from memsidecar.rpc.reflection import MethodAwarePool
from memsidecar.rpc.tls import server_credentials
from memsidecar.v1 import administration_pb2, conversation_memory_pb2, documents_pb2, user_memory_pb2
from memsidecar.v1.administration_pb2_grpc import add_AdministrationServiceServicer_to_server
from memsidecar.v1.conversation_memory_pb2_grpc import add_ConversationMemoryServiceServicer_to_server
from memsidecar.v1.documents_pb2_grpc import add_DocumentServiceServicer_to_server
from memsidecar.v1.user_memory_pb2_grpc import add_UserMemoryServiceServicer_to_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from memsidecar.domain.observation import Observer
    from memsidecar.rpc.tls import TlsFiles
    from memsidecar.v1.administration_pb2_grpc import AdministrationServiceServicer
    from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceServicer
    from memsidecar.v1.documents_pb2_grpc import DocumentServiceServicer
    from memsidecar.v1.user_memory_pb2_grpc import UserMemoryServiceServicer

SERVICES = tuple(
    descriptor.full_name
    for file in (conversation_memory_pb2, user_memory_pb2, documents_pb2, administration_pb2)
    for descriptor in file.DESCRIPTOR.services_by_name.values()
)

MAX_MESSAGE_BYTES = 5 * 1024 * 1024
"""Largest message taken: a document of 4 MiB with all its fields."""

_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    # A second server on the same address must fail, not share the port unnoticed.
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A certificate is looked at when a connection is made: none lives on for long after it was replaced or withdrawn.
    ("grpc.max_connection_age_ms", 10 * 60_000),
    ("grpc.max_connection_age_grace_ms", 10 * 60_000),
)


LAST_WORDS_SECONDS = 0.2
"""For answers that are on their way out when the grace is over."""


class GrpcServer:
    """The four services with health and reflection on one address."""

    def __init__(
        self,
        *,
        conversation_memory: ConversationMemoryServiceServicer,
        user_memory: UserMemoryServiceServicer,
        documents: DocumentServiceServicer,
        administration: AdministrationServiceServicer,
        database_answers: Callable[[], Awaitable[bool]],
        observer: Observer,
    ) -> None:
        self._draining = DrainingInterceptor()
        self._server = grpc.aio.server(
            interceptors=[ObservingInterceptor(observer), ErrorInterceptor(), self._draining],
            options=_OPTIONS,
        )
        add_ConversationMemoryServiceServicer_to_server(conversation_memory, self._server)
        add_UserMemoryServiceServicer_to_server(user_memory, self._server)
        add_DocumentServiceServicer_to_server(documents, self._server)
        add_AdministrationServiceServicer_to_server(administration, self._server)
        health_servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, self._server)
        reflection.enable_server_reflection(
            [*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server, pool=MethodAwarePool()
        )
        self._health = HealthMonitor(health_servicer, SERVICES, database_answers)

    @property
    def serving(self) -> bool:
        """Whether calls are taken and the database answers."""
        return self._health.serving

    async def start(self, address: str, tls: TlsFiles | None = None) -> int:
        """Listen and give the port.

        Args:
            address: ``host:port`` (port 0 takes a free one) or ``unix:/path``.
            tls: Certificate and key; None talks in the clear.

        Raises:
            SetupError: The address cannot be listened on, or the TLS files do not fit.
        """
        try:
            if tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, server_credentials(tls))
        except RuntimeError as error:
            raise SetupError(
                Problem(
                    f"the address {address} cannot be listened on: another program may use it.",
                    "Stop that program, or choose another address with --listen or MEMSIDECAR_LISTEN.",
                )
            ) from error
        await self._health.start()
        await self._server.start()
        if address.startswith("unix:"):
            # Whoever shares the group may call, as an agent does whose Pod has the socket in a shared volume.
            os.chmod(address.removeprefix("unix:"), 0o660)  # noqa: PTH101 - nothing to wait for
        return int(port)

    async def stop(self, grace_seconds: float) -> None:
        """Say NOT_SERVING, refuse new calls, give running ones ``grace_seconds`` to finish."""
        ends = time.monotonic() + grace_seconds
        await self._health.stop()
        await self._draining.drain(grace_seconds)
        await self._server.stop(max(ends - time.monotonic(), LAST_WORDS_SECONDS))

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        await self._server.wait_for_termination()
