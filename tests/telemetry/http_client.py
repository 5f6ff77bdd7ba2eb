"""The smallest HTTP client that shows what the admin port sends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Mapping


async def ask(address: str | None, request: str) -> tuple[int, dict[str, str], str]:
    """Send a request as it is written and give status, headers and body."""
    assert address is not None
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request.encode())
        return await read_answer(reader)
    finally:
        writer.close()
        await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], str]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status_line, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(status_line.split()[1]), headers, body.decode()


async def get(address: str | None, path: str) -> tuple[int, dict[str, str], str]:
    """GET a path."""
    return await ask(address, f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")


class Samples:
    """Metrics as read."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """Sum the samples of a name whose labels include these."""
        return sum(
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and (labels or {}).items() <= sample.labels.items()
        )

    @property
    def labels(self) -> set[tuple[str, str]]:
        """Every label name with every value it has."""
        return {
            pair for family in self.families for sample in family.samples for pair in sample.labels.items()
        }


async def read_metrics(address: str | None) -> Samples:
    """Scrape."""
    status, _headers, body = await get(address, "/metrics")
    assert status == 200
    return Samples(body)
