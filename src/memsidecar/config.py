"""Configuration: one frozen object, and the only reader of the environment."""

from __future__ import annotations

import ipaddress
import os
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import platformdirs

from memsidecar.domain.errors import Problem, SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_LISTEN = "127.0.0.1:7700"
DEFAULT_TENANT = "default"
"""Tenant of callers without a credential, where that is allowed."""

SHORTEST_SHARED_SECRET_BYTES = 32
"""RFC 7518 wants a key for HS256 to be at least as long as its hash."""

_SECRET_FIELDS = frozenset(
    {"database_url", "owner_database_url", "eraser_database_url", "jwt_secret", "token"}
)


def _setting(variable: str, default: Any, help_text: str) -> Any:
    metadata = {"variable": variable, "help": help_text}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _default_data_directory() -> Path:
    # Root's home lets nobody else through, and Postgres refuses to run as root: it runs as another user then.
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/memsidecar")
    return Path(platformdirs.user_data_dir("memsidecar"))


@dataclass(frozen=True, repr=False)
class Config:
    """Every setting of memsidecar. ``Config.from_environment`` reads it; ``repr`` hides what is secret."""

    database_url: str | None = _setting(
        "DATABASE_URL", None, "URL of the app role; unset runs an embedded Postgres in the data directory"
    )
    owner_database_url: str | None = _setting(
        "MEMSIDECAR_OWNER_DATABASE_URL", None, "URL of the role that migrates and maintains"
    )
    eraser_database_url: str | None = _setting(
        "MEMSIDECAR_ERASER_DATABASE_URL", None, "URL of the role that erases; unset refuses erasure"
    )
    data_directory: Path = _setting(
        "MEMSIDECAR_DATA_DIRECTORY",
        _default_data_directory,
        "where the embedded Postgres keeps its data",
    )
    model_directory: Path = _setting(
        "MEMSIDECAR_MODEL_DIRECTORY",
        lambda: Path(platformdirs.user_cache_dir("memsidecar")) / "models",
        "where the embedding model is installed",
    )
    model_source: Path | None = _setting(
        "MEMSIDECAR_MODEL_SOURCE",
        None,
        "directory with the model's published files, for machines without a network",
    )
    model_precision: str = _setting("MEMSIDECAR_MODEL_PRECISION", "int8", "fp32 or int8")
    listen: str = _setting("MEMSIDECAR_LISTEN", DEFAULT_LISTEN, "host:port, or unix:/path/to.sock")
    authentication: str = _setting(
        "MEMSIDECAR_AUTHENTICATION",
        "auto",
        "token (API tokens, and JWTs and client certificates where configured), none (loopback or unix socket"
        " only), or auto (none on loopback and sockets unless JWTs or client certificates are configured)",
    )
    tls_certificate: Path | None = _setting(
        "MEMSIDECAR_TLS_CERTIFICATE",
        None,
        "PEM file of the server's certificate chain; unset talks in the clear",
    )
    tls_key: Path | None = _setting("MEMSIDECAR_TLS_KEY", None, "PEM file of the certificate's private key")
    tls_client_authority: Path | None = _setting(
        "MEMSIDECAR_TLS_CLIENT_AUTHORITY",
        None,
        "PEM file of the authorities whose client certificates every connection must have one of",
    )
    tls_clients: Path | None = _setting(
        "MEMSIDECAR_TLS_CLIENTS",
        None,
        "JSON file that gives identities of client certificates a tenant and rights",
    )
    jwt_issuer: str | None = _setting("MEMSIDECAR_JWT_ISSUER", None, "issuer (iss) of the JWTs to accept")
    jwt_audience: str | None = _setting(
        "MEMSIDECAR_JWT_AUDIENCE", None, "audience (aud) that JWTs must be made for"
    )
    jwt_keys: str | None = _setting(
        "MEMSIDECAR_JWT_KEYS", None, "JSON web key set for RS256 and EdDSA: a file, or an https URL"
    )
    jwt_secret: str | None = _setting(
        "MEMSIDECAR_JWT_SECRET", None, "shared secret for HS256, 32 bytes or more"
    )
    jwt_tenant_claim: str = _setting(
        "MEMSIDECAR_JWT_TENANT_CLAIM", "tenant", "claim with the name or id of the tenant"
    )
    jwt_scope_claim: str = _setting(
        "MEMSIDECAR_JWT_SCOPE_CLAIM", "scope", "claim with scopes such as memsidecar:recall"
    )
    jwt_agents_claim: str = _setting(
        "MEMSIDECAR_JWT_AGENTS_CLAIM", "agents", "claim with the agent ids a JWT is limited to, if it has it"
    )
    pool_size: int = _setting("MEMSIDECAR_POOL_SIZE", 10, "database connections at most, 1 to 500")
    pool_wait_seconds: float = _setting(
        "MEMSIDECAR_POOL_WAIT_SECONDS", 5.0, "longest wait for a free database connection"
    )
    longest_statement_seconds: float = _setting(
        "MEMSIDECAR_LONGEST_STATEMENT_SECONDS",
        60.0,
        "longest time a database statement may take, whatever the caller's deadline",
    )
    statement_cache_size: int = _setting(
        "MEMSIDECAR_STATEMENT_CACHE_SIZE",
        256,
        "prepared statements per connection; 0 behind an old PgBouncer",
    )
    embedding_threads: int = _setting(
        "MEMSIDECAR_EMBEDDING_THREADS",
        0,
        "threads of the embedding engine; 0 takes the container's CPU limit",
    )
    grace_seconds: float = _setting(
        "MEMSIDECAR_GRACE_SECONDS", 10.0, "how long running calls may finish after SIGTERM"
    )
    log_format: str = _setting(
        "MEMSIDECAR_LOG_FORMAT", "auto", "text, json, or auto (json unless a terminal)"
    )
    log_level: str = _setting(
        "MEMSIDECAR_LOG_LEVEL", "info", "debug (a line for every call), info, warning or error"
    )
    admin_listen: str | None = _setting(
        "MEMSIDECAR_ADMIN_LISTEN",
        None,
        "host:port of the admin HTTP port with /metrics, /livez and /readyz; unset opens none",
    )
    traces_exporter: str = _setting(
        "OTEL_TRACES_EXPORTER", "auto", "otlp, console, none, or auto (otlp when an OTLP endpoint is set)"
    )
    otlp_endpoint: str | None = _setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT", None, "where traces are sent, for example http://collector:4318"
    )
    otlp_traces_endpoint: str | None = _setting(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None, "as OTEL_EXPORTER_OTLP_ENDPOINT, for traces alone"
    )
    otlp_protocol: str = _setting("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "http/protobuf or grpc")
    telemetry_disabled: str = _setting("OTEL_SDK_DISABLED", "false", "true sends no traces")
    token: str | None = _setting("MEMSIDECAR_TOKEN", None, "token that the command line sends")
    server_authority: Path | None = _setting(
        "MEMSIDECAR_SERVER_AUTHORITY",
        None,
        "PEM file of the authority of the server's certificate: with it the command line talks TLS",
    )
    client_certificate: Path | None = _setting(
        "MEMSIDECAR_CLIENT_CERTIFICATE", None, "PEM file of the certificate that the command line shows"
    )
    client_key: Path | None = _setting(
        "MEMSIDECAR_CLIENT_KEY", None, "PEM file of the private key of MEMSIDECAR_CLIENT_CERTIFICATE"
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> Config:
        """Read settings from environment variables; ``overrides`` that are not None win, texts checked alike.

        Raises:
            SetupError: A value has the wrong form; all are named at once.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        problems: list[str] = []
        for setting in fields(cls):
            variable = setting.metadata["variable"]
            raw = environment.get(variable, "").strip()
            override = overrides.get(setting.name)
            if isinstance(override, str):
                raw = override.strip()
            elif override is not None:
                values[setting.name] = override
                continue
            if raw:
                try:
                    values[setting.name] = _CONVERTERS.get(setting.name, str)(raw)
                except ValueError as error:
                    problems.append(f"{variable} {error}")
        if problems:
            raise SetupError(
                Problem("; ".join(problems) + ".", "Correct the environment variables or options.")
            )
        config = cls(**values)
        config._check()
        return config

    @property
    def embedded(self) -> bool:
        """Whether memsidecar runs its own Postgres."""
        return self.database_url is None

    @property
    def listens_locally(self) -> bool:
        """Whether only this machine can reach the address."""
        host = self.listen.rpartition(":")[0].strip("[]")
        return self.listen.startswith("unix:") or is_loopback(host)

    @property
    def traces(self) -> str | None:
        """How traces are exported, ``otlp`` or ``console``; None when they are not wanted."""
        if self.telemetry_disabled == "true" or self.traces_exporter == "none":
            return None
        if self.traces_exporter == "auto":
            return "otlp" if self.otlp_endpoint or self.otlp_traces_endpoint else None
        return self.traces_exporter

    @property
    def requires_credential(self) -> bool:
        """Whether a caller needs a token or a certificate."""
        if self.authentication == "auto":
            return not self.listens_locally or self.jwt_issuer is not None or self.tls_clients is not None
        return self.authentication == "token"

    def __repr__(self) -> str:
        return f"Config({', '.join(self._shown(setting.name) for setting in fields(self))})"

    def _shown(self, name: str) -> str:
        value = getattr(self, name)
        return f"{name}={'…' if value and name in _SECRET_FIELDS else repr(value)}"

    def _check(self) -> None:
        for wrong, what, remedy in (
            (
                self.authentication == "none" and not self.listens_locally,
                f"authentication is off, but {self.listen} can be reached from other machines.",
                "Listen on 127.0.0.1 or a unix socket, or set MEMSIDECAR_AUTHENTICATION=token.",
            ),
            (
                self.authentication == "none" and (self.jwt_issuer or self.tls_clients) is not None,
                "authentication is off, but JWTs or client certificates are configured.",
                "Unset MEMSIDECAR_AUTHENTICATION, or the settings MEMSIDECAR_JWT_* and MEMSIDECAR_TLS_CLIENTS.",
            ),
            (
                (self.tls_certificate is None) != (self.tls_key is None),
                "TLS needs a certificate and its key.",
                "Set both MEMSIDECAR_TLS_CERTIFICATE and MEMSIDECAR_TLS_KEY, or neither.",
            ),
            (
                self.tls_client_authority is not None and self.tls_certificate is None,
                "client certificates need TLS.",
                "Set MEMSIDECAR_TLS_CERTIFICATE and MEMSIDECAR_TLS_KEY, or unset MEMSIDECAR_TLS_CLIENT_AUTHORITY.",
            ),
            (
                self.tls_clients is not None and self.tls_client_authority is None,
                "client certificates cannot be checked without the authority they come from.",
                "Set MEMSIDECAR_TLS_CLIENT_AUTHORITY, or unset MEMSIDECAR_TLS_CLIENTS.",
            ),
            (
                (self.client_certificate is None) != (self.client_key is None)
                or (self.client_certificate is not None and self.server_authority is None),
                "the command line shows a certificate only over TLS, and needs its key for that.",
                "Set MEMSIDECAR_SERVER_AUTHORITY, _CLIENT_CERTIFICATE and _CLIENT_KEY, or the first alone, or none.",
            ),
            (
                not self._jwt_settings_fit,
                "JWTs need an issuer, an audience, and keys or a secret.",
                "Set MEMSIDECAR_JWT_ISSUER, _AUDIENCE, and _KEYS or _SECRET, or none of them.",
            ),
        ):
            if wrong:
                raise SetupError(Problem(what, remedy))

    @property
    def _jwt_settings_fit(self) -> bool:
        parts = (self.jwt_issuer, self.jwt_audience, self.jwt_keys or self.jwt_secret)
        return all(part is None for part in parts) or all(part is not None for part in parts)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a host name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _one_of(*choices: str) -> Any:
    def convert(raw: str) -> str:
        if raw not in choices:
            raise ValueError(f"is {raw!r}: give one of {', '.join(choices)}")
        return raw

    return convert


def _whole_number(least: int, most: int) -> Any:
    def convert(raw: str) -> int:
        if not raw.isdigit() or not least <= int(raw) <= most:
            raise ValueError(f"is {raw!r}: give a whole number from {least} to {most}")
        return int(raw)

    return convert


def _seconds(most: float, least: float = 0.0) -> Any:
    def convert(raw: str) -> float:
        try:
            value = float(raw)
        except ValueError:
            value = -1.0
        if not least <= value <= most:
            raise ValueError(f"is {raw!r}: give seconds from {least:g} to {most:g}")
        return value

    return convert


def _postgres_url(raw: str) -> str:
    if not raw.startswith(("postgresql://", "postgres://")):
        raise ValueError("is not a database URL: write postgresql://user:password@host:5432/database")
    return raw


def _address(raw: str) -> str:
    host, separator, port = raw.rpartition(":")
    if raw.startswith("unix:") and len(raw) > len("unix:"):
        return raw
    if not separator or not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError(
            f"is {raw!r}: give host:port, for example 127.0.0.1:7700, or unix:/run/memsidecar.sock"
        )
    return raw


def _host_and_port(raw: str) -> str:
    if raw.startswith("unix:"):
        raise ValueError(f"is {raw!r}: give host:port, for example 127.0.0.1:7701")
    return _address(raw)


def _key_set_location(raw: str) -> str:
    url = urlsplit(raw)
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        raise ValueError("is fetched in the clear: give an https URL, or a file")
    if url.scheme not in {"", "http", "https"}:
        raise ValueError("is neither a file nor an https URL")
    return raw


def _shared_secret(raw: str) -> str:
    if len(raw.encode()) < SHORTEST_SHARED_SECRET_BYTES:
        raise ValueError(f"is too short: give {SHORTEST_SHARED_SECRET_BYTES} random bytes or more")
    return raw


_CONVERTERS: Mapping[str, Any] = {
    "database_url": _postgres_url,
    "owner_database_url": _postgres_url,
    "eraser_database_url": _postgres_url,
    "data_directory": Path,
    "model_directory": Path,
    "server_authority": Path,
    "client_certificate": Path,
    "client_key": Path,
    "model_source": Path,
    "model_precision": _one_of("fp32", "int8"),
    "listen": _address,
    "authentication": _one_of("auto", "none", "token"),
    "tls_certificate": Path,
    "tls_key": Path,
    "tls_client_authority": Path,
    "tls_clients": Path,
    "jwt_keys": _key_set_location,
    "jwt_secret": _shared_secret,
    "pool_size": _whole_number(1, 500),
    "pool_wait_seconds": _seconds(600),
    "longest_statement_seconds": _seconds(3_600, least=0.1),
    "statement_cache_size": _whole_number(0, 10_000),
    "embedding_threads": _whole_number(0, 1_024),
    "grace_seconds": _seconds(3_600),
    "log_format": _one_of("auto", "json", "text"),
    "log_level": _one_of("debug", "info", "warning", "error"),
    "admin_listen": _host_and_port,
    "traces_exporter": _one_of("auto", "otlp", "console", "none"),
    "otlp_protocol": _one_of("http/protobuf", "grpc"),
    "telemetry_disabled": str.lower,
}
