"""Taking a user along: the export holds everything, and an import into an empty tenant recalls the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from memsidecar.domain.audit import AuditTrail
from memsidecar.domain.caller import TENANT_RIGHTS, Caller
from memsidecar.domain.tokens import TokenRegistry
from memsidecar.postgres.audit_store import PostgresAuditStore
from memsidecar.postgres.token_store import PostgresTokenStore
from memsidecar.v1 import administration_pb2 as pb
from memsidecar.v1 import conversation_memory_pb2 as turns_pb
from memsidecar.v1 import documents_pb2, user_memory_pb2
from memsidecar.v1.administration_pb2_grpc import AdministrationServiceStub
from memsidecar.v1.conversation_memory_pb2_grpc import ConversationMemoryServiceStub
from memsidecar.v1.documents_pb2_grpc import DocumentServiceStub
from memsidecar.v1.user_memory_pb2_grpc import UserMemoryServiceStub
from tests.rpc.statuses import bad_fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from uuid import UUID

    from memsidecar.postgres.database import Database

AGENT = "018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071"
HANDBOOK = b"# Travel\n\nBook early: prices double.\n\n## Refunds\n\nRefunds arrive within ten days.\n"
QUERIES = ("when do we meet?", "the dog", "refunds", "Ann", "who pays for lunch on Friday?")
EMPTY = pb.ImportUserResponse()


@dataclass
class Tenant:
    """A tenant as its administrator calls it."""

    tenant_id: UUID
    channel: grpc.aio.Channel
    token: str

    async def call(self, stub: Any, method: str, request: Any) -> Any:
        metadata = (("authorization", f"Bearer {self.token}"),)
        return await getattr(stub(self.channel), method)(request, metadata=metadata)

    async def append(self, content: str, **fields: Any) -> None:
        turn = turns_pb.NewTurn(
            **{
                "agent_id": AGENT,
                "user_id": "ann",
                "conversation_id": "lunch",
                "role": "ROLE_USER",
                "content": content,
                **fields,
            }
        )
        await self.call(ConversationMemoryServiceStub, "AppendTurn", turns_pb.AppendTurnRequest(turn=turn))

    async def upsert(self, memory: str) -> None:
        request = user_memory_pb2.UpsertUserMemoryRequest(
            user_id="ann", memory=memory, metadata=ParseDict({"plan": "free"}, Struct())
        )
        await self.call(UserMemoryServiceStub, "UpsertUserMemory", request)

    async def ingest(self, key: str, content: bytes) -> None:
        document = documents_pb2.NewDocument(document_key=key, content=content, user_id="ann")
        answer = await self.call(
            DocumentServiceStub, "IngestDocument", documents_pb2.IngestDocumentRequest(document=document)
        )
        metadata = (("authorization", f"Bearer {self.token}"),)
        watch = documents_pb2.WatchIngestionJobRequest(job_id=answer.job.job_id)
        async for _message in DocumentServiceStub(self.channel).WatchIngestionJob(watch, metadata=metadata):
            pass

    async def export(self, *, include_vectors: bool = True, user_id: str = "ann") -> bytes:
        metadata = (("authorization", f"Bearer {self.token}"),)
        request = pb.ExportUserRequest(user_id=user_id, include_vectors=include_vectors)
        stub = AdministrationServiceStub(self.channel)
        return b"".join([piece.lines async for piece in stub.ExportUser(request, metadata=metadata)])

    async def take_in(self, lines: bytes, *, piece: int = 10_000) -> pb.ImportUserResponse:
        async def pieces() -> AsyncIterator[pb.ImportUserRequest]:
            for first in range(0, len(lines), piece):
                yield pb.ImportUserRequest(lines=lines[first : first + piece])

        answer: pb.ImportUserResponse = await self.call(AdministrationServiceStub, "ImportUser", pieces())
        return answer

    async def everything_seen(self) -> dict[str, Any]:
        """What every way of reading gives."""
        scope = turns_pb.TurnScope(user_id="ann")
        seen: dict[str, Any] = {}
        for query in QUERIES:
            for mode in (turns_pb.RECALL_MODE_FUSED, turns_pb.RECALL_MODE_VECTOR):
                recall = turns_pb.RecallSimilarRequest(query=query, scope=scope, mode=mode, explain=True)
                answer = await self.call(ConversationMemoryServiceStub, "RecallSimilar", recall)
                answer.ClearField("timings")
                seen[f"recall {query} {mode}"] = answer
            search = documents_pb2.HybridSearchRequest(
                query=query, scope=documents_pb2.DocumentScope(user_id="ann")
            )
            answer = await self.call(DocumentServiceStub, "HybridSearch", search)
            answer.ClearField("timings")
            seen[f"search {query}"] = answer
            archive = user_memory_pb2.SearchUserMemoryArchiveRequest(user_id="ann", query=query)
            seen[f"archive {query}"] = await self.call(
                UserMemoryServiceStub, "SearchUserMemoryArchive", archive
            )
        listing = turns_pb.ListTurnsRequest(scope=scope)
        seen["turns"] = await self.call(ConversationMemoryServiceStub, "ListTurns", listing)
        for turn in seen["turns"].turns:
            history = turns_pb.GetTurnHistoryRequest(turn_id=turn.turn_id)
            seen[f"history {turn.turn_id}"] = await self.call(
                ConversationMemoryServiceStub, "GetTurnHistory", history
            )
        revisions = user_memory_pb2.ListUserMemoryRevisionsRequest(user_id="ann")
        seen["memory"] = await self.call(UserMemoryServiceStub, "ListUserMemoryRevisions", revisions)
        documents = documents_pb2.ListDocumentsRequest(scope=documents_pb2.DocumentScope(user_id="ann"))
        seen["documents"] = await self.call(DocumentServiceStub, "ListDocuments", documents)
        return seen


def event(name: str) -> turns_pb.Event:
    return turns_pb.Event(source="channel", event_id=name)


@pytest.fixture
async def tenants(
    start_sidecar: Callable[..., Any], database: Database, new_tenant: Callable[..., Awaitable[UUID]]
) -> AsyncIterator[tuple[Tenant, Tenant]]:
    """A tenant to export from and an empty one, served with tokens."""
    async with (
        start_sidecar(authentication="token") as sidecar,
        grpc.aio.insecure_channel(sidecar.address) as channel,
    ):
        made = []
        for name in ("source", "target"):
            tenant_id = await new_tenant(name)
            maker = Caller(name="test", rights=TENANT_RIGHTS, tenant_id=tenant_id)
            _token, secret = await TokenRegistry(PostgresTokenStore(database)).create(
                maker, tenant_id=None, name=name, rights=TENANT_RIGHTS, agent_ids=frozenset(), lifetime=None
            )
            made.append(Tenant(tenant_id, channel, secret))
        yield made[0], made[1]


@pytest.fixture
async def source(tenants: tuple[Tenant, Tenant]) -> Tenant:
    """A tenant with a user who has something of everything."""
    tenant, _target = tenants
    at = Timestamp(seconds=1_770_000_000)
    await tenant.append("an early edit", event=event("e0"), target=event("m0"), action="TURN_ACTION_EDITED")
    await tenant.append("its original", event=event("m0"), occurred_at=at)
    await tenant.append("let us meet at noon", event=event("m1"), speaker={"display_name": "Ann"})
    await tenant.append(
        "let us meet at one", event=event("e1"), target=event("m1"), action="TURN_ACTION_EDITED"
    )
    await tenant.append("the dog is called Biscuit", request_id="r1", metadata={"pets": 1})
    await tenant.append("please forget this", event=event("m2"))
    await tenant.append(
        "", event=event("d2"), target=event("m2"), action="TURN_ACTION_DELETED", role="ROLE_UNSPECIFIED"
    )
    await tenant.append("Bob pays for lunch on Friday", user_id="bob", speaker={"speaker_id": "ann"})
    await tenant.append("what Bob says is his own", user_id="bob")
    await tenant.append('naïve 日本語 \n \\ "quotes" 🦊')
    await tenant.upsert("Likes tea.")
    await tenant.upsert("Likes tea. Dislikes fish.")
    await tenant.ingest("travel.md", HANDBOOK)
    return tenant


def lines_of(export: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export.splitlines()]


def joined(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def test_an_import_into_an_empty_tenant_recalls_the_same(
    tenants: tuple[Tenant, Tenant], source: Tenant
) -> None:
    before = await source.everything_seen()
    taken = await tenants[1].take_in(await source.export())
    assert (taken.turns, taken.memory_revisions, taken.documents, taken.repeated) == (6, 2, 1, 0)
    assert await tenants[1].everything_seen() == before
    assert len(before["turns"].turns) == 4


async def test_vectors_are_made_again_where_there_are_none(
    tenants: tuple[Tenant, Tenant], source: Tenant
) -> None:
    export = await source.export(include_vectors=False)
    assert b'"vector": [' not in export
    await tenants[1].take_in(export)
    before, after = await source.everything_seen(), await tenants[1].everything_seen()
    assert after["turns"] == before["turns"]
    for name, answer in before.items():
        if name.startswith("recall"):
            found = [(hit.turn.turn_id, pytest.approx(hit.score, abs=0.02)) for hit in answer.hits]
            assert [(hit.turn.turn_id, hit.score) for hit in after[name].hits] == found


async def test_vectors_of_another_model_are_not_believed(
    tenants: tuple[Tenant, Tenant], source: Tenant
) -> None:
    lines = lines_of(await source.export())
    for line in lines:
        for row in line.get("rows", [line]):
            if row.get("vector"):
                row["model"] = "0" * 64
                row["vector"] = [1.0] + [0.0] * 383
    await tenants[1].take_in(joined(lines))
    recall = turns_pb.RecallSimilarRequest(query="what is the dog called?", mode=turns_pb.RECALL_MODE_VECTOR)
    recall.scope.user_id = "ann"
    answer = await tenants[1].call(ConversationMemoryServiceStub, "RecallSimilar", recall)
    assert answer.hits[0].turn.content == "the dog is called Biscuit"


async def test_the_past_is_taken_along(tenants: tuple[Tenant, Tenant], source: Tenant) -> None:
    listing = turns_pb.ListTurnsRequest(scope=turns_pb.TurnScope(user_id="ann"))
    everything = await source.call(ConversationMemoryServiceStub, "ListTurns", listing)
    moments = sorted(turn.created_at.ToNanoseconds() for turn in everything.turns)
    await tenants[1].take_in(await source.export())
    for moment in moments:
        listing.scope.as_of.FromNanoseconds(moment)
        there = await source.call(ConversationMemoryServiceStub, "ListTurns", listing)
        assert await tenants[1].call(ConversationMemoryServiceStub, "ListTurns", listing) == there


async def test_edits_go_on_after_an_import(tenants: tuple[Tenant, Tenant], source: Tenant) -> None:
    target = tenants[1]
    await target.take_in(await source.export())
    await target.append("at three", event=event("e9"), target=event("m1"), action="TURN_ACTION_EDITED")
    await target.append("never", event=event("e8"), target=event("m2"), action="TURN_ACTION_EDITED")
    await target.append("let us meet at noon", event=event("m1"))
    listing = turns_pb.ListTurnsRequest(scope=turns_pb.TurnScope(user_id="ann"))
    turns = (await target.call(ConversationMemoryServiceStub, "ListTurns", listing)).turns
    assert "at three" in [turn.content for turn in turns]
    assert len(turns) == 4


async def test_the_export_holds_everything_and_nothing_of_others(source: Tenant) -> None:
    lines = lines_of(await source.export())
    kinds = [line["kind"] for line in lines]
    assert kinds[0] == "export"
    assert kinds[1:7] == ["turn"] * 6
    assert lines[-1] == {
        "kind": "end",
        "lines": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds[1:-1])},
    }
    contents = [row["content"] for line in lines[1:7] for row in line["rows"]]
    assert sorted(contents) == sorted(
        [
            "its original",
            "an early edit",
            "an early edit",
            "let us meet at noon",
            "let us meet at one",
            "the dog is called Biscuit",
            "please forget this",
            "",
            'naïve 日本語 \n \\ "quotes" 🦊',
            "Bob pays for lunch on Friday",
        ]
    )
    assert "his own" not in json.dumps(lines)
    assert set(kinds) == {"export", "turn", "memory_revision", "document", "chunk", "ingestion", "end"}


async def test_an_import_is_safe_to_repeat_and_to_resume(
    tenants: tuple[Tenant, Tenant], source: Tenant
) -> None:
    export = await source.export()
    target = tenants[1]
    half = joined(lines_of(export)[:4])
    assert (await target.take_in(half)).turns == 3
    rest = await target.take_in(export, piece=7)
    assert (rest.turns, rest.repeated) == (3, 3)
    again = await target.take_in(export)
    assert (again.turns, again.memory_revisions, again.documents, again.repeated) == (0, 0, 0, 9)
    assert await target.everything_seen() == await source.everything_seen()


async def test_what_is_there_already_stays_as_it_is(tenants: tuple[Tenant, Tenant], source: Tenant) -> None:
    target = tenants[1]
    await target.append("said here", event=event("m1"))
    await target.upsert("Written here.")
    await target.ingest("travel.md", b"# Travel\n\nAnother handbook.\n")
    taken = await target.take_in(await source.export())
    assert (taken.turns, taken.memory_revisions, taken.documents, taken.repeated) == (5, 0, 0, 4)
    seen = await target.everything_seen()
    assert "said here" in [turn.content for turn in seen["turns"].turns]
    assert "let us meet at one" not in [turn.content for turn in seen["turns"].turns]
    assert [memory.memory for memory in seen["memory"].revisions] == ["Written here."]


async def test_exports_and_imports_are_recorded_without_the_name(
    tenants: tuple[Tenant, Tenant], source: Tenant, database: Database
) -> None:
    await tenants[1].take_in(await source.export())
    for tenant, action in zip(tenants, ("user.export", "user.import"), strict=True):
        caller = Caller(name="test", rights=TENANT_RIGHTS, tenant_id=tenant.tenant_id)
        page = await AuditTrail(PostgresAuditStore(database)).list_events(caller, before=None, limit=10)
        assert [event.action for event in page.items] == [action, "token.create"]
        assert "ann" not in repr(page.items[0])
        assert len(page.items[0].subject) == 64


async def test_a_user_nobody_knows_has_an_empty_export(source: Tenant) -> None:
    lines = lines_of(await source.export(user_id="nobody"))
    assert [line["kind"] for line in lines] == ["export", "end"]
    assert lines[1]["lines"] == {}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (lambda lines: lines.pop(0), ["lines[1].kind"]),
        (lambda lines: lines[0].update(version=2), ["lines[1].version"]),
        (lambda lines: lines[1].update(kind="surprise"), ["lines[2].kind"]),
        (lambda lines: lines[1].update(rows=[]), ["lines[2].rows"]),
        (lambda lines: lines[1].update(rows=[1]), ["lines[2].rows[0]", "lines[2].rows"]),
        (
            lambda lines: lines[2]["rows"][0].update(id="x", role="king", content=5, occurred_at="soon"),
            [
                f"lines[3].rows[0].{name}"
                for name in ("id", "role", "content", "occurred_at", "turn_id", "content")
            ],
        ),
        (lambda lines: lines[2]["rows"][0].update(content="a\x00b"), ["lines[3].rows[0].content"] * 2),
        (lambda lines: lines[2]["rows"][0].update(user_id=""), ["lines[3].rows[0].user_id"]),
        (lambda lines: lines[2]["rows"][0].update(metadata=[]), ["lines[3].rows[0].metadata"]),
        (lambda lines: lines[2]["rows"][0].update(created_at="0001-01-01T00:00Z"), ["lines[3].rows[0].created_at"]),
        (lambda lines: lines[2]["rows"][0].update(vector=[0.0] * 384), ["lines[3].rows[0].vector"]),
        (lambda lines: lines[2]["rows"][0].update(vector=[float("nan")] * 384), ["lines[3].rows[0].vector"]),
        (lambda lines: lines[2]["rows"][0].update(vector=[1.0] * 3), ["lines[3].rows[0].vector"]),
        (lambda lines: lines[2]["rows"][0].update(vector="x"), ["lines[3].rows[0].vector"]),
        (lambda lines: lines[2]["rows"].append(dict(lines[2]["rows"][0])), ["lines[3].rows"] * 3),
    ],
)  # fmt: skip
async def test_a_bad_line_is_refused_with_its_fields(
    tenants: tuple[Tenant, Tenant],
    source: Tenant,
    change: Callable[[list[dict[str, Any]]], Any],
    fields: list[str],
) -> None:
    await source.append("another turn", occurred_at=Timestamp(seconds=1_600_000_000))
    lines = lines_of(await source.export())
    lines.insert(1, lines.pop(2))  # a turn with changes first, then one that was only said
    change(lines)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await tenants[1].take_in(joined(lines))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert bad_fields(refused.value) == fields


@pytest.mark.parametrize(
    "lines",
    [b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"kind": "export"}', b'{"kind": ["export"]}', b"null\n"],
)
async def test_what_is_not_an_export_is_refused(tenants: tuple[Tenant, Tenant], lines: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await tenants[1].take_in(lines)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_documents_need_all_their_chunks_in_order(
    tenants: tuple[Tenant, Tenant], source: Tenant
) -> None:
    lines = lines_of(await source.export())
    first = next(index for index, line in enumerate(lines) if line["kind"] == "chunk")
    for broken_lines in (
        lines[:first] + lines[first + 1 :],
        [*lines[:first], {**lines[first], "chunk_index": 5}, *lines[first + 1 :]],
        [*lines[:first], {**lines[first], "end_char": 10_000}, *lines[first + 1 :]],
        [*lines[: first - 1], *lines[first:]],
        lines[: first + 1][:-1],
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await tenants[1].take_in(joined(broken_lines))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await tenants[1].everything_seen())["documents"].documents == []


async def test_an_empty_import_takes_nothing_in(tenants: tuple[Tenant, Tenant]) -> None:
    assert await tenants[1].take_in(b"") == EMPTY
    assert await tenants[1].take_in(b"\n\n") == EMPTY
