"""User memory over a real socket: modes, revisions, limits, the archive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure

from memsidecar.domain.limits import HARD_MEMORY_BYTES, SOFT_MEMORY_BYTES
from memsidecar.domain.tenants import MemoryOverflow, TenantSettings
from memsidecar.domain.user_memory import MemoryKey, MemoryWrite, MemoryWriteMode
from memsidecar.v1 import user_memory_pb2 as pb
from memsidecar.v1.user_memory_pb2_grpc import UserMemoryServiceStub
from tests.rpc.statuses import details

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.user_memory import UserMemories

AGENT = "018f2b3c-5d6e-7f80-9a1b-2c3d4e5f6071"


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return UserMemoryServiceStub(channel)


def struct(**members: Any) -> Struct:
    message = Struct()
    message.update(members)
    return message


async def upsert(stub: Any, **fields: Any) -> pb.UpsertUserMemoryResponse:
    request = pb.UpsertUserMemoryRequest(**{"user_id": "ann", **fields})
    response: pb.UpsertUserMemoryResponse = await stub.UpsertUserMemory(request)
    return response


async def get(stub: Any, user_id: str = "ann", agent_id: str = "") -> pb.UserMemory:
    request = pb.GetUserMemoryRequest(user_id=user_id, agent_id=agent_id)
    memory: pb.UserMemory = (await stub.GetUserMemory(request)).memory
    return memory


async def refusal(awaitable: Awaitable[Any]) -> tuple[grpc.StatusCode, ErrorInfo, list[Any]]:
    """The code of a refused call, its reason, and its other details."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await awaitable
    [info] = details(refused.value, ErrorInfo)
    return (
        refused.value.code(),
        info,
        details(refused.value, BadRequest) + details(refused.value, QuotaFailure),
    )


async def test_first_write_and_read(stub: Any) -> None:
    written = await upsert(stub, memory="Likes tea.", metadata=struct(plan="free"))
    assert (written.memory.revision, written.repeated, written.compaction_suggested) == (1, False, False)
    memory = await get(stub)
    assert memory == written.memory
    assert (memory.memory, memory.metadata, memory.size_bytes) == ("Likes tea.", struct(plan="free"), 10)
    assert memory.updated_by == "local"


async def test_text_is_replaced_appended_or_left(stub: Any) -> None:
    append = pb.MEMORY_WRITE_MODE_APPEND
    await upsert(stub, memory="Likes tea.", memory_mode=append)
    await upsert(stub, memory="Dislikes fish.", memory_mode=append)
    assert (await get(stub)).memory == "Likes tea.\n\nDislikes fish."
    await upsert(stub, metadata=struct(plan="free"))
    assert (await get(stub)).memory == "Likes tea.\n\nDislikes fish."
    await upsert(stub, memory="Likes coffee.")
    assert (await get(stub)).memory == "Likes coffee."
    await upsert(stub, memory="")
    memory = await get(stub)
    assert (memory.memory, memory.metadata, memory.revision) == ("", struct(plan="free"), 5)


async def test_object_is_merged_replaced_or_left(stub: Any) -> None:
    await upsert(stub, metadata=struct(plan="free", seats=3, contact={"mail": "a@b.c", "phone": "1"}))
    await upsert(stub, metadata=struct(seats=None, contact={"phone": None, "fax": "2"}))
    assert (await get(stub)).metadata == struct(plan="free", contact={"mail": "a@b.c", "fax": "2"})
    await upsert(stub, memory="Likes tea.")
    assert (await get(stub)).metadata == struct(plan="free", contact={"mail": "a@b.c", "fax": "2"})
    await upsert(stub, metadata=struct(plan="paid"), metadata_mode=pb.METADATA_WRITE_MODE_REPLACE)
    assert (await get(stub)).metadata == struct(plan="paid")


async def test_memories_are_kept_apart_by_user_and_agent(stub: Any) -> None:
    await upsert(stub, memory="shared")
    await upsert(stub, memory="of the agent", agent_id=AGENT)
    await upsert(stub, memory="of another user", user_id="bob")
    assert (await get(stub)).memory == "shared"
    assert (await get(stub, agent_id=AGENT)).memory == "of the agent"
    assert (await get(stub, "bob")).memory == "of another user"
    code, _info, _details = await refusal(get(stub, "bob", AGENT))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_a_write_builds_on_the_revision_it_expects(stub: Any) -> None:
    await upsert(stub, memory="one", expected_revision=0)
    code, info, _details = await refusal(upsert(stub, memory="two", expected_revision=0))
    assert (code, info.reason) == (grpc.StatusCode.ABORTED, "REVISION_CONFLICT")
    assert info.metadata["current_revision"] == "1"
    await upsert(stub, memory="two", expected_revision=1)
    code, info, _details = await refusal(upsert(stub, memory="three", expected_revision=1))
    assert (code, info.metadata["current_revision"]) == (grpc.StatusCode.ABORTED, "2")
    assert (await get(stub)).memory == "two"


async def test_of_writers_that_expect_the_same_revision_one_wins(stub: Any) -> None:
    answers = await asyncio.gather(
        *(upsert(stub, memory=f"writer {number}", expected_revision=0) for number in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, pb.UpsertUserMemoryResponse) for answer in answers) == 1
    assert (await get(stub)).revision == 1


async def test_a_hundred_writers_lose_nothing(stub: Any) -> None:
    await asyncio.gather(
        *(
            upsert(stub, memory=f"fact {number}", memory_mode=pb.MEMORY_WRITE_MODE_APPEND)
            for number in range(100)
        )
    )
    memory = await get(stub)
    assert memory.revision == 100
    assert sorted(memory.memory.split("\n\n")) == sorted(f"fact {number}" for number in range(100))


async def test_a_request_counts_once(stub: Any) -> None:
    fields = {"memory": "fact", "memory_mode": pb.MEMORY_WRITE_MODE_APPEND, "request_id": "r-1"}
    answers = await asyncio.gather(*(upsert(stub, **fields) for _call in range(10)))
    assert sorted(answer.repeated for answer in answers) == [False] + [True] * 9
    await upsert(stub, memory="another", memory_mode=pb.MEMORY_WRITE_MODE_APPEND)
    late = await upsert(stub, **fields)
    assert late.repeated
    assert (late.memory.memory, late.memory.revision) == ("fact\n\nanother", 2)


async def test_a_repeated_request_is_not_a_conflict(stub: Any) -> None:
    fields = {"memory": "fact", "expected_revision": 0, "request_id": "r-1"}
    await upsert(stub, **fields)
    assert (await upsert(stub, **fields)).repeated


async def test_a_request_id_stands_for_one_request(stub: Any) -> None:
    await upsert(stub, memory="fact", request_id="r-1")
    code, info, _details = await refusal(upsert(stub, memory="another fact", request_id="r-1"))
    assert (code, info.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_CONTENT_DIFFERS")
    assert (await get(stub)).memory == "fact"
    assert not (await upsert(stub, memory="of bob", user_id="bob", request_id="r-1")).repeated


async def test_every_revision_is_kept_and_can_be_restored(stub: Any) -> None:
    for number in range(1, 6):
        await upsert(stub, memory=f"version {number}", metadata=struct(number=number))
    restored = await stub.RestoreUserMemoryRevision(
        pb.RestoreUserMemoryRevisionRequest(user_id="ann", revision=2, expected_revision=5)
    )
    assert (restored.memory.revision, restored.memory.memory) == (6, "version 2")
    assert restored.memory.metadata == struct(number=2)
    first = await stub.ListUserMemoryRevisions(pb.ListUserMemoryRevisionsRequest(user_id="ann", page_size=4))
    assert [memory.revision for memory in first.revisions] == [6, 5, 4, 3]
    second = await stub.ListUserMemoryRevisions(
        pb.ListUserMemoryRevisionsRequest(user_id="ann", page_size=4, page_token=first.next_page_token)
    )
    assert [memory.memory for memory in second.revisions] == ["version 2", "version 1"]
    assert second.next_page_token == ""
    assert {memory.updated_by for memory in second.revisions} == {"local"}


async def test_what_cannot_be_restored(stub: Any) -> None:
    await upsert(stub, memory="one")
    restore = pb.RestoreUserMemoryRevisionRequest
    code, _info, _details = await refusal(stub.RestoreUserMemoryRevision(restore(user_id="ann", revision=2)))
    assert code is grpc.StatusCode.NOT_FOUND
    code, info, _details = await refusal(
        stub.RestoreUserMemoryRevision(restore(user_id="ann", revision=1, expected_revision=7))
    )
    assert (code, info.metadata["current_revision"]) == (grpc.StatusCode.ABORTED, "1")
    assert (await get(stub)).revision == 1


async def test_past_the_soft_limit_compaction_is_suggested(stub: Any) -> None:
    assert not (await upsert(stub, memory="x" * SOFT_MEMORY_BYTES)).compaction_suggested
    grown = await upsert(stub, memory="y", memory_mode=pb.MEMORY_WRITE_MODE_APPEND)
    assert grown.compaction_suggested
    assert not (await upsert(stub, memory="short again")).compaction_suggested


async def test_past_the_hard_limit_a_write_is_refused_with_the_sizes(stub: Any) -> None:
    await upsert(stub, memory="é" * (HARD_MEMORY_BYTES // 2))
    code, info, [quota] = await refusal(upsert(stub, memory="y", memory_mode=pb.MEMORY_WRITE_MODE_APPEND))
    assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MEMORY_TOO_LARGE")
    assert dict(info.metadata) == {
        "size_bytes": str(HARD_MEMORY_BYTES + 3),
        "limit_bytes": str(HARD_MEMORY_BYTES),
        "current_size_bytes": str(HARD_MEMORY_BYTES),
    }
    assert quota.violations[0].description == f"{HARD_MEMORY_BYTES + 3} bytes of at most {HARD_MEMORY_BYTES}"
    assert (await get(stub)).revision == 1
    code, info, _details = await refusal(upsert(stub, memory="x" * 100_000))
    assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MEMORY_TOO_LARGE")


async def test_every_bad_field_is_named_and_nothing_is_written(stub: Any) -> None:
    code, _info, [bad] = await refusal(
        upsert(
            stub,
            user_id="",
            agent_id="not-a-uuid",
            memory_mode=9,
            metadata_mode=9,
            expected_revision=-1,
            request_id="r" * 257,
        )
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert {violation.field for violation in bad.field_violations} == {
        "user_id",
        "agent_id",
        "memory",
        "memory_mode",
        "metadata_mode",
        "expected_revision",
        "request_id",
    }
    for fields in (
        {"memory": "a\x00b"},
        {"metadata": struct(big="x" * 70_000)},
        {"metadata": struct(nul="\x00")},
    ):
        code, _info, _details = await refusal(upsert(stub, **fields))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
    code, _info, _details = await refusal(get(stub))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_a_merge_may_not_outgrow_the_limit_of_an_object(stub: Any) -> None:
    await upsert(stub, metadata=struct(a="x" * 40_000))
    code, _info, [bad] = await refusal(upsert(stub, metadata=struct(b="x" * 40_000)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in bad.field_violations] == ["metadata"]
    assert list((await get(stub)).metadata) == ["a"]


@pytest.fixture
async def archiving(caller: Caller, new_tenant: Callable[..., Awaitable[UUID]]) -> Caller:
    """A caller whose tenant archives at the hard limit."""
    tenant_id = await new_tenant("archiving", TenantSettings(memory_overflow=MemoryOverflow.ARCHIVE))
    return type(caller)(name="bot", rights=caller.rights, tenant_id=tenant_id)


def paragraph(subject: str, size: int = 20_000) -> str:
    return f"{subject} " + "and so on " * ((size - len(subject)) // 10)


async def test_at_the_hard_limit_the_oldest_paragraphs_move_to_the_archive(
    user_memories: UserMemories, archiving: Caller
) -> None:
    key = MemoryKey("ann")
    subjects = [
        "Her dog is called Biscuit.",
        "She sails on Sundays.",
        "She is allergic to nuts.",
        "She moved.",
    ]
    moved = []
    for subject in subjects:
        write = MemoryWrite(memory=paragraph(subject), memory_mode=MemoryWriteMode.APPEND)
        moved.append((await user_memories.upsert(archiving, key, write)).archived_paragraphs)
    assert moved == [0, 0, 0, 1]
    memory = await user_memories.get(archiving, key)
    assert memory.memory == "\n\n".join(paragraph(subject) for subject in subjects[1:])
    assert memory.size_bytes <= HARD_MEMORY_BYTES
    found = await user_memories.search_archive(archiving, key, "what is the name of the pet?", top_k=200)
    assert found[0].text.startswith("Her dog is called Biscuit.")
    assert {passage.revision for passage in found} == {3}
    assert sum(len(passage.text) for passage in found) > 19_000
    assert [passage.similarity for passage in found] == sorted(
        (passage.similarity for passage in found), reverse=True
    )
    assert await user_memories.search_archive(archiving, MemoryKey("bob"), "pet", top_k=10) == []


async def test_writers_that_archive_at_the_same_moment_lose_nothing(
    user_memories: UserMemories, archiving: Caller
) -> None:
    key = MemoryKey("ann")
    texts = [paragraph(f"Fact number {number}.", 12_000) for number in range(8)]
    await asyncio.gather(
        *(
            user_memories.upsert(archiving, key, MemoryWrite(memory=text, memory_mode=MemoryWriteMode.APPEND))
            for text in texts
        )
    )
    memory = await user_memories.get(archiving, key)
    archived = await user_memories.search_archive(archiving, key, "fact", top_k=200)
    kept = memory.memory.split("\n\n")
    starts = [text.split(".")[0] for text in [*kept, *(passage.text for passage in archived)]]
    assert {f"Fact number {number}" for number in range(8)} <= set(starts)
    assert len(kept) == 5


async def test_one_paragraph_beyond_the_limit_is_refused_even_so(
    user_memories: UserMemories, archiving: Caller
) -> None:
    from memsidecar.domain.errors import MemoryTooLarge

    with pytest.raises(MemoryTooLarge):
        await user_memories.upsert(
            archiving, MemoryKey("ann"), MemoryWrite(memory="x" * (HARD_MEMORY_BYTES + 1))
        )


async def test_rights_and_agents_of_the_credential(user_memories: UserMemories, caller: Caller) -> None:
    from dataclasses import replace

    from memsidecar.domain.caller import Right
    from memsidecar.domain.errors import PermissionDenied

    reader = replace(caller, rights=frozenset({Right.RECALL}))
    writer = replace(caller, rights=frozenset({Right.APPEND}))
    limited = replace(caller, agent_ids=frozenset({UUID(AGENT)}))
    other_agent = MemoryKey("ann", UUID(int=UUID(AGENT).int + 1))
    await user_memories.upsert(writer, MemoryKey("ann"), MemoryWrite(memory="fact"))
    assert (await user_memories.get(reader, MemoryKey("ann"))).memory == "fact"
    for refused in (
        user_memories.upsert(reader, MemoryKey("ann"), MemoryWrite(memory="fact")),
        user_memories.restore(reader, MemoryKey("ann"), 1, None),
        user_memories.get(writer, MemoryKey("ann")),
        user_memories.list_revisions(writer, MemoryKey("ann"), limit=1, before=None),
        user_memories.search_archive(writer, MemoryKey("ann"), "fact", top_k=1),
        user_memories.upsert(limited, other_agent, MemoryWrite(memory="fact")),
        user_memories.get(limited, other_agent),
    ):
        with pytest.raises(PermissionDenied):
            await refused
