"""The running server that a command talks to."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
import rich_click as click

from memsidecar.cli.failures import CommandFailed, ended, sentence
from memsidecar.client import (
    DeadlineExceededError,
    ExhaustedError,
    InvalidRequestError,
    MemoryClient,
    MemoryServiceError,
    PermissionDeniedError,
    RetryPolicy,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from memsidecar.config import Config
from memsidecar.domain.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memsidecar.cli.settings import Decorator

server_option: Decorator = click.option(
    "--server",
    metavar="ADDRESS",
    help="host:port or unix:/path of the running server. Default: MEMSIDECAR_LISTEN, or 127.0.0.1:7700.",
)

PATIENT = RetryPolicy(max_attempts=60)
"""For work in bulk, which shall outlast a busy server."""
IMPATIENT = RetryPolicy(max_attempts=3)
"""For a person who waits: a server that is not there is said to be missing within half a second."""


@contextmanager
def open_server(address: str | None, retries: RetryPolicy = IMPATIENT) -> Iterator[MemoryClient]:
    """Connect to the running server with the token of the environment, and explain what fails."""
    config = Config.from_environment(listen=address, authentication="auto")
    with connect(config, retries) as client:
        try:
            yield client
        except MemoryServiceError as error:
            raise CommandFailed(explained(error, config)) from error


def connect(config: Config, retries: RetryPolicy) -> MemoryClient:
    """Make a client for the configured address, with the configured token and certificates."""
    return MemoryClient(config.listen, token=config.token, credentials=_credentials(config), retries=retries)


def _credentials(config: Config) -> grpc.ChannelCredentials | None:
    if config.server_authority is None:
        return None
    try:
        authority, key, chain = (
            None if path is None else path.read_bytes()
            for path in (config.server_authority, config.client_key, config.client_certificate)
        )
    except OSError as error:
        raise CommandFailed(
            [Problem(f"{error.filename} cannot be read: {error.strerror}.", "Give the path of a PEM file.")]
        ) from error
    return grpc.ssl_channel_credentials(authority, key, chain)


def explained(error: MemoryServiceError, config: Config) -> list[Problem]:
    """Say what a failed call means to the person at the terminal."""
    if isinstance(error, InvalidRequestError) and error.violations:
        return [Problem(ended(f"{each.field} {each.description}"), "") for each in error.violations]
    if isinstance(error, UnavailableError) and not error.reason:
        over = "" if config.server_authority is None else " over TLS"
        remedy = _START_IT
        if config.server_authority is None and not config.listens_locally:
            remedy += " If it talks TLS, set MEMSIDECAR_SERVER_AUTHORITY."
        return [Problem(f"No memsidecar answers at {config.listen}{over}.", remedy)]
    return [Problem(sentence(error.message), _REMEDIES.get(type(error), ""))]


_START_IT = "Start one with 'memsidecar serve', or name the right address with --server."
_REMEDIES: dict[type[MemoryServiceError], str] = {
    UnauthenticatedError: "Make a token with 'memsidecar token create NAME' and put it into MEMSIDECAR_TOKEN.",
    PermissionDeniedError: "Use a token with that right: 'memsidecar token create NAME --right ...'.",
    UnavailableError: "Find out why with 'memsidecar check'.",
    DeadlineExceededError: "Try again; 'memsidecar check' says whether the server is well.",
    ExhaustedError: "Try again later.",
    UnimplementedError: f"Is it a memsidecar of this version? {_START_IT}",
}
