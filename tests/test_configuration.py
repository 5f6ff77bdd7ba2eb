"""Settings: what is refused at the start, and with what words."""

from __future__ import annotations

import pytest

from memsidecar.config import Config
from memsidecar.domain.errors import SetupError

JWT = {
    "MEMSIDECAR_JWT_ISSUER": "https://identity.example",
    "MEMSIDECAR_JWT_AUDIENCE": "memsidecar",
    "MEMSIDECAR_JWT_KEYS": "https://identity.example/keys",
}
TLS = {"MEMSIDECAR_TLS_CERTIFICATE": "/tls/tls.crt", "MEMSIDECAR_TLS_KEY": "/tls/tls.key"}


@pytest.mark.parametrize(
    ("listen", "local"),
    [
        ("127.0.0.1:7700", True),
        ("127.1.2.3:7700", True),
        ("[::1]:7700", True),
        ("localhost:7700", True),
        ("unix:/run/memsidecar.sock", True),
        ("0.0.0.0:7700", False),
        ("[::]:7700", False),
        ("10.0.0.1:7700", False),
        ("127.example.com:7700", False),
        ("localhost.example.com:7700", False),
    ],
)
def test_without_authentication_only_this_machine_is_served(listen: str, local: bool) -> None:
    assert Config.from_environment({"MEMSIDECAR_LISTEN": listen}).requires_credential is not local
    environment = {"MEMSIDECAR_LISTEN": listen, "MEMSIDECAR_AUTHENTICATION": "none"}
    if local:
        assert not Config.from_environment(environment).requires_credential
    else:
        with pytest.raises(SetupError, match="can be reached from other machines"):
            Config.from_environment(environment)


@pytest.mark.parametrize(
    "environment",
    [
        JWT,
        {**TLS, "MEMSIDECAR_TLS_CLIENT_AUTHORITY": "/tls/ca.crt", "MEMSIDECAR_TLS_CLIENTS": "/clients.json"},
    ],
)
def test_configured_credentials_are_asked_for_on_loopback_too(environment: dict[str, str]) -> None:
    assert Config.from_environment(environment).requires_credential
    with pytest.raises(SetupError, match="authentication is off, but"):
        Config.from_environment({**environment, "MEMSIDECAR_AUTHENTICATION": "none"})


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"MEMSIDECAR_TLS_KEY": "/tls/tls.key"}, "TLS needs a certificate and its key"),
        ({"MEMSIDECAR_TLS_CLIENT_AUTHORITY": "/tls/ca.crt"}, "client certificates need TLS"),
        ({**TLS, "MEMSIDECAR_TLS_CLIENTS": "/clients.json"}, "without the authority"),
        ({"MEMSIDECAR_JWT_ISSUER": "https://identity.example"}, "JWTs need an issuer, an audience"),
        ({"MEMSIDECAR_JWT_KEYS": "/keys.json"}, "JWTs need an issuer, an audience"),
        ({**JWT, "MEMSIDECAR_JWT_KEYS": "http://identity.example/keys"}, "in the clear"),
        ({**JWT, "MEMSIDECAR_JWT_KEYS": "ftp://identity.example/keys"}, "neither a file nor"),
        ({**JWT, "MEMSIDECAR_JWT_SECRET": "too short"}, "MEMSIDECAR_JWT_SECRET is too short"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(SetupError, match=complaint) as refused:
        Config.from_environment(environment)
    assert "too short at" not in refused.value.message


def test_secrets_are_not_shown() -> None:
    secret = "a-secret-of-at-least-thirty-two-bytes"
    config = Config.from_environment(
        {
            **JWT,
            "MEMSIDECAR_JWT_SECRET": secret,
            "MEMSIDECAR_TOKEN": secret,
            "DATABASE_URL": f"postgresql://app:{secret}@db/x",
            "MEMSIDECAR_OWNER_DATABASE_URL": f"postgresql://owner:{secret}@db/x",
            "MEMSIDECAR_ERASER_DATABASE_URL": f"postgresql://eraser:{secret}@db/x",
        }
    )
    assert config.jwt_secret == secret
    assert secret not in repr(config)
    assert secret not in str(config)
    with pytest.raises(SetupError) as refused:
        Config.from_environment(
            {**JWT, "MEMSIDECAR_JWT_SECRET": "hunter2", "DATABASE_URL": "mysql://a:hunter2@b"}
        )
    assert "hunter2" not in refused.value.message
