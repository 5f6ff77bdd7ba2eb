"""TLS of the server: its certificate, and the authority of client certificates, replaced without a restart."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from memsidecar.domain.errors import Problem, SetupError
from memsidecar.rpc.reloaded_files import ReloadedFiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the PEM files are."""

    certificate: Path
    """The server's certificate, followed by its intermediates."""
    private_key: Path
    """Its key, not encrypted."""
    client_authority: Path | None = None
    """Certificates of the authorities that client certificates must come from; None asks clients for none."""


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Give credentials that follow the files: each new connection gets what they hold at that moment.

    A new state that does not fit together, for example a certificate whose key has not arrived yet, is passed over
    with a warning until it does.

    Raises:
        SetupError: The files do not fit now.
    """
    paths = [files.certificate, files.private_key]
    if files.client_authority is not None:
        paths.append(files.client_authority)
    try:
        reloaded = ReloadedFiles(paths, _configuration, _refused)
    except (OSError, ValueError) as error:
        raise SetupError(
            Problem(
                f"the TLS files cannot be used: {_said(error)}.",
                "Correct MEMSIDECAR_TLS_CERTIFICATE, MEMSIDECAR_TLS_KEY and MEMSIDECAR_TLS_CLIENT_AUTHORITY.",
            )
        ) from error

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        changed, configuration = reloaded.changed()
        return configuration if changed else None

    return grpc.dynamic_ssl_server_credentials(
        reloaded.current(),
        fetch,  # type: ignore[arg-type]  # None means "as before", which the stubs do not know
        require_client_authentication=files.client_authority is not None,
    )


def _configuration(contents: Sequence[bytes]) -> grpc.ServerCertificateConfiguration:
    certificate, private_key, *authority = contents
    _check_pair(certificate, private_key)
    if authority:
        _certificates(authority[0], "the file of client authorities")
    return grpc.ssl_server_certificate_configuration(
        [(private_key, certificate)], authority[0] if authority else None
    )


def _check_pair(certificate: bytes, private_key: bytes) -> None:
    chain = _certificates(certificate, "the certificate file")
    try:
        key = load_pem_private_key(private_key, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError("the key file holds no private key in PEM form without a password") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if chain[0].public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise ValueError("the key does not belong to the first certificate")


def _certificates(text: bytes, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError as error:
        raise ValueError(f"{what} holds no certificate in PEM form") from error


def _refused(error: Exception) -> None:
    _LOGGER.warning("changed TLS files are not used, the last good ones are: %s", _said(error))


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename} cannot be read ({error.strerror})"
    return str(error)
