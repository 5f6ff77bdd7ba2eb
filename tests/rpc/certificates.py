"""Certificates made for a test."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, folder: Path, name: str = "server") -> tuple[Path, Path]:
        """Write both, each in one step, and give the paths."""
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        for path, content in zip(paths, (self.certificate_pem, self.key_pem), strict=True):
            half = path.with_suffix(".new")
            half.write_bytes(content)
            half.rename(path)
        return paths


class Authority:
    """Issues certificates."""

    def __init__(self, name: str = "test authority") -> None:
        self.issued = _issue(name, None)

    @property
    def pem(self) -> bytes:
        return self.issued.certificate_pem

    def server(self) -> Issued:
        """Issue a certificate for the loopback."""
        return _issue(
            "localhost", self.issued, x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))
        )

    def client(self, name: str, *alternative_names: x509.GeneralName) -> Issued:
        """Issue a certificate for a client."""
        return _issue(name, self.issued, *alternative_names)


def _issue(name: str, authority: Issued | None, *alternative_names: x509.GeneralName) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    if alternative_names:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative_names), critical=False)
    return Issued(builder.sign(authority.key if authority else key, hashes.SHA256()), key)
