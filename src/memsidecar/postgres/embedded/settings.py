"""Settings of the embedded Postgres that differ from Postgres's own defaults, or must not.

They go into ``memsidecar.conf`` in the data directory, which is written again at every start and includes the
``postgresql.conf`` that initdb made; ``ALTER SYSTEM`` outranks both, so an operator can still tune.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS: Mapping[str, str] = {
    # An acknowledged turn survives a power cut: these three are defaults, stated because everything rests on
    # them.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # A socket only this user can enter; nothing on the network.
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # Beside an agent, not on a machine of its own: memory and connections stay modest, and the page cache
    # does the rest. Fifty connections are several pools and a person with psql.
    "max_connections": "50",
    "shared_buffers": "128MB",
    "work_mem": "8MB",
    # Large enough that an HNSW index over some 30,000 vectors of 384 dimensions is built in memory.
    "maintenance_work_mem": "128MB",
    "autovacuum_work_mem": "64MB",
    "autovacuum_max_workers": "2",
    # Huge pages are reserved by the whole machine's administrator, for others.
    "huge_pages": "off",
    # Short statements: compiling one takes longer than running it.
    "jit": "off",
    # The cores serve the embedding model, one statement must not take them all; and parallel workers share
    # memory through /dev/shm, of which a container has 64 MB by default.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    # Bounds what the write-ahead log takes on disk, and with it how long recovery after a crash lasts.
    "min_wal_size": "32MB",
    "max_wal_size": "512MB",
    # Before recovery everything goes to disk once: in one call to the system instead of one for each of some
    # thousand files (0.3 s against 4.4 s on a slow disk). Only Linux has that call.
    **({"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}),
    # Notices a client that died in the middle of a long statement, and so ends that statement.
    "client_connection_check_interval": "10s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The log tells about the server, never about what is stored: messages and statements of failed commands
    # may quote content, and the client receives them anyway. "log" ranks above "error" here and below
    # "fatal".
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "lc_messages": "C",
}

THROWAWAY: Mapping[str, str] = {
    # For data nobody will miss: nothing waits for the disk. A killed Postgres still loses nothing.
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "10min",
}


def is_durable(settings: Mapping[str, str]) -> bool:
    """Whether data must outlive a power cut."""
    return settings.get("fsync", "on") == "on"


def configuration_text(settings: Mapping[str, str]) -> str:
    """The settings in the syntax of ``postgresql.conf``, for a file beside the ``cluster`` directory."""
    lines = [f"{name} = '{_escaped(value)}'\n" for name, value in settings.items()]
    return (
        "# Written at every start; change settings with ALTER SYSTEM.\ninclude 'cluster/postgresql.conf'\n"
        + "".join(lines)
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")
