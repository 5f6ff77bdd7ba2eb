"""Loads the named statements of ``postgres/sql/*.sql``.

A file holds statements, each introduced by ``-- name: some_name`` and a comment that says what it does and what its
parameters are. Values come in as ``$n`` only. Each statement is sent with its name in a comment, by which it is
recognised in ``pg_stat_activity``, in the server's log and in traces.
"""

from __future__ import annotations

import re
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER = re.compile(r"^-- name: ([a-z0-9_]+)\s*$", re.MULTILINE)
_NAME = re.compile(r"/\* ([A-Za-z0-9_]+) \*/")


def load_queries(name: str) -> Mapping[str, str]:
    """Read ``sql/<name>.sql`` into a mapping from statement name to statement text.

    Raises:
        ValueError: The file holds text before the first name, a name twice, or a name without a statement.
    """
    text = resources.files("memsidecar.postgres").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    before, *parts = _HEADER.split(text)
    if before.strip():
        raise ValueError(f"sql/{name}.sql: text before the first '-- name:' line")
    queries: dict[str, str] = {}
    for query_name, body in zip(parts[::2], parts[1::2], strict=True):
        statement = body.strip().removesuffix(";")
        if query_name in queries or not statement:
            raise ValueError(f"sql/{name}.sql: {query_name} is empty or there twice")
        queries[query_name] = f"/* {query_name} */ {statement}"
    return MappingProxyType(queries)


def statement_name(statement: str) -> str:
    """Give the name of a statement; of one that has none, its first word: ``BEGIN``, ``COMMIT``."""
    named = _NAME.match(statement)
    return named[1] if named else statement[:16].replace(";", " ").partition(" ")[0]
