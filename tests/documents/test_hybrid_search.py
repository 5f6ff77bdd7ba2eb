"""Hybrid search finds passages by meaning and by word, within what the caller may see."""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from memsidecar.domain.hybrid_search import HybridOptions
from memsidecar.v1 import documents_pb2 as pb
from tests.documents.conftest import ended, stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from uuid import UUID

    from memsidecar.postgres.database import Database
    from tests.conftest import TestDatabase
    from tests.documents.conftest import Ingest

GLOBAL = pb.DocumentScope()


async def take_in(documents: Any, texts: dict[str, str], **fields: Any) -> None:
    fields = fields if "user_id" in fields else {"is_global": True, **fields}
    new = [pb.NewDocument(document_key=key, content=text.encode(), **fields) for key, text in texts.items()]
    job = (await documents.IngestDocuments(stream(*new))).job
    assert (await ended(documents, job.job_id)).status == pb.INGESTION_STATUS_COMPLETED


async def search(documents: Any, query: str, **fields: Any) -> pb.HybridSearchResponse:
    fields.setdefault("scope", pb.DocumentScope(user_id="U1"))
    response: pb.HybridSearchResponse = await documents.HybridSearch(
        pb.HybridSearchRequest(query=query, **fields)
    )
    return response


async def keys(documents: Any, query: str, **fields: Any) -> list[str]:
    return [hit.document.document_key for hit in (await search(documents, query, **fields)).hits]


async def test_own_and_global_documents_are_seen_and_others_are_not(documents: Any, ingest: Ingest) -> None:
    await ingest("mine.txt", b"The office closes at six.", user_id="U1")
    await ingest("theirs.txt", b"The office closes at seven.", user_id="U2")
    await ingest("ours.txt", b"The office closes on Sundays.", is_global=True)

    query = "when does the office close"
    assert set(await keys(documents, query)) == {"mine.txt", "ours.txt"}
    assert await keys(documents, query, scope=pb.DocumentScope(user_id="U1", exclude_global=True)) == [
        "mine.txt"
    ]
    # The caller of an open server is an administrator: without a user it sees the whole tenant.
    assert set(await keys(documents, query, scope=GLOBAL)) == {"mine.txt", "theirs.txt", "ours.txt"}
    assert set(await keys(documents, query, scope=pb.DocumentScope(exclude_global=True))) == {
        "mine.txt",
        "theirs.txt",
    }


async def test_filters_narrow(documents: Any, ingest: Ingest) -> None:
    first = await ingest("a.txt", b"Rules for travel.", metadata={"team": "sales", "tags": ["x", "y"]})
    await ingest("b.md", b"Rules for meals.", metadata={"team": "support"})

    async def found(**scope: Any) -> list[str]:
        return await keys(documents, "rules", scope=pb.DocumentScope(user_id="U1", **scope))

    assert set(await found()) == {"a.txt", "b.md"}
    assert await found(document_types=[pb.DOCUMENT_TYPE_MARKDOWN]) == ["b.md"]
    assert await found(document_ids=[first.document_ids[0]]) == ["a.txt"]
    assert await found(metadata={"team": "support"}) == ["b.md"]
    assert await found(metadata={"tags": ["y"]}) == ["a.txt"]
    assert await found(metadata={"team": "nobody"}) == []


async def test_time_narrows(documents: Any) -> None:
    for year in (2023, 2024):
        document = pb.NewDocument(document_key=f"{year}.txt", is_global=True, content=b"The yearly report.")
        document.occurred_at.FromJsonString(f"{year}-06-01T00:00:00Z")
        job = (await documents.IngestDocument(pb.IngestDocumentRequest(document=document))).job
        await ended(documents, job.job_id)
    scope = pb.DocumentScope(user_id="U1")
    scope.occurred.start_time.FromJsonString("2024-01-01T00:00:00Z")
    assert await keys(documents, "report", scope=scope) == ["2024.txt"]
    scope.occurred.end_time.FromJsonString("2024-06-01T00:00:00Z")
    assert await keys(documents, "report", scope=scope) == []


async def test_as_many_hits_as_there_are_chunks_come_back(documents: Any) -> None:
    await take_in(documents, {f"{n}.txt": f"Number {n} is about something else entirely." for n in range(5)})
    assert len(await keys(documents, "zebra crossing", top_k=3)) == 3
    assert len(await keys(documents, "zebra crossing", top_k=200)) == 5
    assert len(await keys(documents, "number", top_k=200, options=pb.HybridOptions(candidates=10))) == 5


async def test_meaning_and_words_both_count(documents: Any) -> None:
    await take_in(
        documents,
        {
            "money.txt": "Reimbursement of expenses takes ten days.",
            "code.txt": "Error QX7731 means that the disk is full.",
            "noise.txt": "The canteen serves soup on Mondays.",
        },
    )
    assert (await keys(documents, "how long until I get my money back"))[0] == "money.txt"
    assert (await keys(documents, "QX7731"))[0] == "code.txt"


async def test_phrases_and_exclusions_are_honoured(documents: Any) -> None:
    await take_in(
        documents,
        {
            "exact.txt": "The travel budget is set in May.",
            "apart.txt": "The budget for travel is set in June.",
            "plural.txt": "All travel budgets are set in July.",
            "stop.txt": "To be or not to be: that is the budget.",
        },
    )
    everything = {"exact.txt", "apart.txt", "plural.txt", "stop.txt"}
    assert set(await keys(documents, "travel budget")) == everything
    assert set(await keys(documents, '"travel budget"')) == {"exact.txt", "plural.txt"}
    assert set(await keys(documents, '"Travel  budget is"')) == {"exact.txt"}
    assert set(await keys(documents, "“to be or not”")) == {"stop.txt"}
    assert set(await keys(documents, "budget -june")) == everything - {"apart.txt"}
    assert set(await keys(documents, 'budget -"travel budget"')) == {"apart.txt", "stop.txt"}
    assert set(await keys(documents, '"travel budget" -may')) == {"plural.txt"}
    assert set(await keys(documents, "-budget")) == set()
    assert set(await keys(documents, "set -5 - day x-may")) == everything


async def test_identifiers_are_found_however_they_are_written(documents: Any) -> None:
    await take_in(
        documents,
        {
            "snake.py": "value = get_user_id(session)",
            "camel.js": "const value = getUserId(session)",
            "dotted.txt": "See memory.store.append for it.",
            "ticket.txt": "Fixed by OPS-1234 last week.",
            "words.txt": "How to get the user id of a session.",
        },
    )
    by_word = {"options": pb.HybridOptions(vector_weight=0), "top_k": 3}
    assert set(await keys(documents, "get_user_id", **by_word)) == {"snake.py", "camel.js", "words.txt"}
    assert set(await keys(documents, "getUserId", **by_word)) == {"snake.py", "camel.js", "words.txt"}
    assert (await keys(documents, "memory.store.append", **by_word))[0] == "dotted.txt"
    assert (await keys(documents, "store append", **by_word))[0] == "dotted.txt"
    assert (await keys(documents, "OPS-1234", **by_word))[0] == "ticket.txt"
    assert (await keys(documents, "ops1234", **by_word))[0] == "ticket.txt"


async def test_each_document_has_its_language(documents: Any, ingest: Ingest) -> None:
    await ingest("de.txt", "Die Überweisungen dauern zehn Tage.".encode(), language="german")
    await ingest("en.txt", b"The transfers take ten days.", language="english")
    await ingest("xx.txt", b"qapla' nuqneH", language="klingon")
    by_word = {"options": pb.HybridOptions(vector_weight=0), "top_k": 1}
    assert await keys(documents, "Überweisung", **by_word) == ["de.txt"]
    assert await keys(documents, "transferred", **by_word) == ["en.txt"]
    assert await keys(documents, "nuqneh", **by_word) == ["xx.txt"]


async def test_what_a_question_rules_out_is_not_searched_for(documents: Any) -> None:
    await take_in(
        documents,
        {
            "wanted.txt": "Parental leave lasts fourteen months.",
            "other.txt": "Part-time staff, part-time contracts and part-time pay.",
        },
    )
    found = await keys(
        documents, "parental leave, excluding part-time staff and part-time contracts", top_k=1
    )
    assert found == ["wanted.txt"]


async def test_scores_are_explained(documents: Any) -> None:
    await take_in(documents, {"a.txt": "Refunds take ten days.", "b.txt": "Soup is served on Mondays."})
    response = await search(
        documents, "refunds", explain=True, options=pb.HybridOptions(vector_weight=2, lexical_weight=1)
    )
    assert response.timings.database_micros > 0
    best, other = response.hits
    vector, lexical = best.parts
    assert (vector.name, vector.rank, vector.weight, vector.normalized) == ("vector", 1, 2.0, 1.0)
    assert (lexical.name, lexical.rank, lexical.weight, lexical.normalized) == ("lexical", 1, 1.0, 1.0)
    assert vector.raw == pytest.approx(best.similarity)
    assert best.score == pytest.approx(3.0)
    assert other.parts[1].rank == 0
    assert other.score == pytest.approx(2 * other.parts[0].normalized)
    least = pb.HybridOptions(min_score=best.score - 0.01, vector_weight=2, lexical_weight=1)
    assert len((await search(documents, "refunds", options=least)).hits) == 1


async def test_matching_words_are_marked(documents: Any) -> None:
    await take_in(
        documents, {"a.txt": "The refunds policy: ask getUserId, then refund. The travel\nbudget too."}
    )
    [hit] = (await search(documents, 'refunding user "travel budget"', highlight=True)).hits
    marked = [hit.chunk.text[span.start_char : span.end_char] for span in hit.highlights]
    assert marked == ["refunds", "getUserId", "refund", "travel\nbudget"]


def long_text(topic: str, *, sections: int) -> str:
    return "\n\n".join(
        f"## {topic} {number}\n\n" + f"This part of {topic} number {number} has rules of its own. " * 8
        for number in range(sections)
    )


async def test_hits_are_grouped_by_document(documents: Any) -> None:
    await take_in(
        documents, {f"{topic}.md": long_text(topic, sections=6) for topic in ("travel", "meals", "phones")}
    )
    response = await search(documents, "rules for travel", group_by_document=True, top_k=2)
    assert response.hits[0].document.document_key == "travel.md"
    assert len({hit.document.document_id for hit in response.hits}) == len(response.hits) == 2
    for hit in response.hits:
        assert all(other.document.document_id == hit.document.document_id for other in hit.more)
        scores = [hit.score, *(other.score for other in hit.more)]
        assert scores == sorted(scores, reverse=True)
    assert len((await search(documents, "rules for travel", group_by_document=True, top_k=50)).hits) == 3


async def test_neighbours_come_along(documents: Any) -> None:
    await take_in(documents, {"travel.md": long_text("travel", sections=6)})
    hit = (await search(documents, "travel number 3", neighbours=2, top_k=1)).hits[0]
    around = [chunk.chunk_index for chunk in hit.context]
    wanted = range(hit.chunk.chunk_index - 2, hit.chunk.chunk_index + 3)
    assert around == [index for index in wanted if 0 <= index < 6 and index != hit.chunk.chunk_index]


CORPUS = {
    "1": "refund policy refund travel",
    "2": "travel budget travel hotel train travel",
    "3": "soup canteen menu",
    "4": "refund hotel canteen train bus car plane ship",
}


async def test_words_are_weighed_as_bm25_does(documents: Any) -> None:
    """Against the formula written down once more: k1 1.2, b 0.75, length in different words, the title among them."""
    await take_in(documents, CORPUS, language="simple", title="note")
    texts = {key: Counter(f"note {text}".split()) for key, text in CORPUS.items()}
    average = sum(len(words) for words in texts.values()) / len(texts)
    query = ["refund", "travel", "hotel"]
    expected: dict[str, float] = {}
    for key, words in texts.items():
        score = 0.0
        for word in query:
            containing = sum(word in other for other in texts.values())
            weight = math.log(1 + (len(texts) - containing + 0.5) / (containing + 0.5))
            norm = 1.2 * (0.25 + 0.75 * len(words) / average)
            score += weight * 2.2 * words[word] / (words[word] + norm)
        expected[key] = score
    response = await search(documents, " ".join(query), explain=True)
    found = {hit.document.document_key: hit.parts[1].raw for hit in response.hits}
    assert found == {key: pytest.approx(score, rel=1e-6) for key, score in expected.items()}


@pytest.fixture
async def by_hand(test_database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    """What somebody at a psql prompt has: a plain connection of the app role."""
    connection = await asyncpg.connect(test_database.app_url)
    yield connection
    await connection.close()


async def test_the_function_is_usable_by_hand(
    documents: Any, ingest: Ingest, by_hand: asyncpg.Connection, database: Database
) -> None:
    await ingest("mine.txt", b"Refunds take ten days.", user_id="U1")
    await ingest("theirs.txt", b"Refunds take a year.", user_id="U2")
    async with database.control() as connection:
        tenant_id = await connection.fetchval("SELECT id FROM find_tenant(NULL, 'default')")

    assert await by_hand.fetch("SELECT * FROM hybrid_search('refunds', whole_tenant => true)") == []
    async with by_hand.transaction():
        await by_hand.execute(f"SET LOCAL app.current_tenant = '{tenant_id}'")
        rows = await by_hand.fetch(
            "SELECT content, score, lexical_rank FROM hybrid_search('refund', for_user => 'U1')"
        )
        assert [tuple(row) for row in rows] == [("Refunds take ten days.", 0.6, 1)]
        rows = await by_hand.fetch(
            """SELECT content FROM hybrid_search(
                   'year', (SELECT embedding FROM document_chunks WHERE content LIKE '%year%'), whole_tenant => true)"""
        )
        assert [row["content"] for row in rows] == ["Refunds take a year.", "Refunds take ten days."]
    assert await by_hand.fetch("SELECT * FROM hybrid_search('refunds', whole_tenant => true)") == []


async def test_no_other_tenant_is_searched(
    documents: Any,
    ingest: Ingest,
    by_hand: asyncpg.Connection,
    new_tenant: Callable[..., Awaitable[UUID]],
) -> None:
    await ingest("secret.txt", b"Refunds take ten days.")
    other = await new_tenant("other")
    queries = [
        "SELECT * FROM hybrid_search('refunds', whole_tenant => true)",
        "SELECT * FROM hybrid_search('refunds', $1, whole_tenant => true, by_document => true)",
    ]
    vector = str([0.05] * 384)
    async with by_hand.transaction():
        await by_hand.execute(f"SET LOCAL app.current_tenant = '{other}'")
        assert await by_hand.fetch(queries[0]) == []
        assert await by_hand.fetch(queries[1].replace("$1", f"'{vector}'")) == []


async def test_a_callers_own_tables_cannot_stand_in_for_the_real_ones(
    documents: Any, ingest: Ingest, by_hand: asyncpg.Connection, database: Database
) -> None:
    await ingest("secret.txt", b"Refunds take ten days.")
    async with database.control() as connection:
        tenant_id = await connection.fetchval("SELECT id FROM find_tenant(NULL, 'default')")
    async with by_hand.transaction():
        await by_hand.execute(
            "CREATE TEMP TABLE document_chunks AS SELECT * FROM public.document_chunks LIMIT 0"
        )
        await by_hand.execute(f"SET LOCAL app.current_tenant = '{tenant_id}'")
        assert len(await by_hand.fetch("SELECT * FROM hybrid_search('refunds', whole_tenant => true)")) == 1


async def test_the_search_role_reads_and_nothing_else(
    by_hand: asyncpg.Connection, test_database: TestDatabase
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await by_hand.execute("SET ROLE memsidecar_search")
    owner = await asyncpg.connect(test_database.owner_url)
    rights = await owner.fetch(
        """SELECT table_name, privilege_type FROM information_schema.table_privileges
           WHERE grantee = 'memsidecar_search' ORDER BY 1, 2"""
    )
    await owner.close()
    assert [tuple(row) for row in rights] == [("document_chunks", "SELECT"), ("documents", "SELECT")]


async def test_the_defaults_of_the_database_are_those_of_the_product(test_database: TestDatabase) -> None:
    owner = await asyncpg.connect(test_database.owner_url)
    arguments = await owner.fetchval(
        "SELECT pg_get_function_arguments(oid) FROM pg_proc WHERE proname = 'hybrid_search'"
    )
    await owner.close()
    defaults = dict(re.findall(r"(\w+) (?:double precision|integer) DEFAULT ([\d.]+)", arguments))
    options = inspect.signature(HybridOptions).parameters
    for name in ("vector_weight", "lexical_weight", "candidates"):
        assert float(defaults[name]) == options[name].default
