"""How both clients connect."""

from __future__ import annotations

DEFAULT_ADDRESS = "127.0.0.1:7700"
DEFAULT_TIMEOUT_SECONDS = 10.0
"""Deadline of a call, retries included."""
BATCH_TIMEOUT_SECONDS = 60.0
"""Deadline of a call that carries many turns or whole documents."""
JOB_TIMEOUT_SECONDS = 600.0
"""How long an ingestion job is waited for."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # Repeating is decided here, where it is known what is safe to repeat.
    ("grpc.enable_retries", 0),
    # A server that restarts is found again at once, not after gRPC's own minute.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A connection that died without a word is noticed.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


def call_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Give the metadata that says who is calling."""
    return () if not token else (("authorization", f"Bearer {token}"),)
