"""Hybrid search finds passages by meaning and by word, within what the caller may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memsidecar.v1 import documents_pb2 as pb

if TYPE_CHECKING:
    from tests.documents.conftest import Ingest


async def search(documents: Any, query: str, **fields: Any) -> list[str]:
    scope = fields.pop("scope", pb.DocumentScope(user_id="U1"))
    response = await documents.HybridSearch(pb.HybridSearchRequest(query=query, scope=scope, **fields))
    return [hit.document.document_key for hit in response.hits]


async def test_own_and_global_documents_are_seen_and_others_are_not(documents: Any, ingest: Ingest) -> None:
    await ingest("mine.txt", b"The office closes at six.", user_id="U1")
    await ingest("theirs.txt", b"The office closes at seven.", user_id="U2")
    await ingest("ours.txt", b"The office closes on Sundays.", is_global=True)

    assert set(await search(documents, "when does the office close")) == {"mine.txt", "ours.txt"}
    only_own = pb.DocumentScope(user_id="U1", exclude_global=True)
    assert await search(documents, "when does the office close", scope=only_own) == ["mine.txt"]


async def test_as_many_hits_as_there_are_chunks_come_back(documents: Any, ingest: Ingest) -> None:
    for number in range(5):
        await ingest(f"{number}.txt", f"Number {number} is about something else entirely.".encode())

    assert len(await search(documents, "zebra crossing", top_k=3)) == 3
    assert len(await search(documents, "zebra crossing", top_k=50)) == 5


async def test_meaning_and_words_both_count(documents: Any, ingest: Ingest) -> None:
    await ingest("money.txt", b"Reimbursement of expenses takes ten days.")
    await ingest("code.txt", b"Error QX7731 means that the disk is full.")
    await ingest("noise.txt", b"The canteen serves soup on Mondays.")

    assert (await search(documents, "how long until I get my money back"))[0] == "money.txt"
    assert (await search(documents, "QX7731"))[0] == "code.txt"
