"""Recall on the real model and database: words, people, time, diversity, context, budget."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from memsidecar.domain.recall import RankingOptions, Recall, RecallMode, RecallRequest, TimePreference
from memsidecar.domain.turns import NewTurn, Role, Speaker, TimeRange, TurnScope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from memsidecar.domain.caller import Caller
    from memsidecar.domain.conversation_memory import ConversationMemory
    from memsidecar.domain.recall_engine import RecallEngine

    Say = Callable[..., Awaitable[None]]
    Ask = Callable[..., Awaitable[Recall]]

AGENT = UUID(int=1)
START = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.fixture
def say(conversation_memory: ConversationMemory, caller: Caller) -> Say:
    """Say things in turn, a minute apart: ``await say("one", "another", conversation="lunch")``."""

    async def append(*contents: str, **fields: Any) -> None:
        speaking = fields.pop("caller", caller)
        values = {
            "agent_id": AGENT,
            "user_id": "ann",
            "conversation_id": fields.pop("conversation", "chat"),
            "role": Role.USER,
            **fields,
        }
        start = values.pop("start", START)
        turns = [
            NewTurn(content=content, occurred_at=start + timedelta(minutes=number), **values)
            for number, content in enumerate(contents)
        ]
        await conversation_memory.append(speaking, turns)

    return append


@pytest.fixture
def ask(recall_engine: RecallEngine, caller: Caller) -> Ask:
    """Recall: ``await ask("query", top_k=3)``."""

    async def recall(query: str, **fields: Any) -> Recall:
        speaking = fields.pop("caller", caller)
        scope = fields.pop("scope", TurnScope(user_id="ann"))
        return await recall_engine.recall(speaking, RecallRequest(query=query, scope=scope, **fields))

    return recall


def contents(recall: Recall) -> list[str]:
    return [hit.turn.content for hit in recall.hits]


FILLER = (
    "We had pasta for dinner.",
    "The train was late again this morning.",
    "My sister moved to a flat near the river.",
    "I am reading a long novel about whales.",
    "The meeting was moved to Thursday.",
    "It rained the whole weekend.",
    "He repaired the old bicycle.",
    "Coffee is getting more expensive.",
)


@pytest.mark.parametrize(
    ("query", "turn"),
    [
        ("OPS-4711", "Please look at OPS-4711 when you can."),
        ("parse_invoice_lines", "It crashes in parse_invoice_lines with a stack trace."),
        ("error 0x80070057", "The update stopped with error 0x80070057 on my laptop."),
        ("Brzezinski", "Lunch with Brzezinski was nice."),
        ("10.20.30.41", "The printer answers at 10.20.30.41 now."),
    ],
)
@pytest.mark.parametrize("mode", [RecallMode.FUSED, RecallMode.LEXICAL])
async def test_names_ticket_ids_and_code_are_found(
    say: Say, ask: Ask, query: str, turn: str, mode: RecallMode
) -> None:
    await say(*FILLER[:4], turn, *FILLER[4:])
    assert contents(await ask(query, mode=mode, top_k=3))[0] == turn


@pytest.mark.parametrize(
    ("language", "query", "turn"),
    [
        ("german", "Häuser", "Das Haus am See wurde verkauft."),
        ("klingon", "qapla", "Today is a good day, qapla"),
        ("simple", "продали", "дом возле озера продали"),
        ("russian", "озеро", "дом возле озера продали"),
    ],
)
async def test_every_language_finds_its_words(
    say: Say, ask: Ask, caller: Caller, language: str, query: str, turn: str
) -> None:
    speaking = replace(caller, language=language)
    await say(*FILLER, turn, caller=speaking)
    found = await ask(query, mode=RecallMode.LEXICAL, caller=speaking)
    assert contents(found)[0] == turn


async def test_a_turn_is_found_by_the_next_call_and_every_visible_one_is_a_hit(say: Say, ask: Ask) -> None:
    for number, content in enumerate(FILLER, start=1):
        await say(content)
        for mode in (RecallMode.FUSED, RecallMode.VECTOR):
            found = await ask(content, mode=mode, top_k=200)
            assert found.hits[0].turn.content == content
            assert len(found.hits) == number


async def test_lexical_mode_gives_only_turns_near_the_words(say: Say, ask: Ask) -> None:
    await say(*FILLER)
    assert "My sister moved to a flat near the river." in contents(
        await ask("sisters", mode=RecallMode.LEXICAL)
    )
    assert contents(await ask("zebra", mode=RecallMode.LEXICAL)) == []
    assert contents(await ask("the of and", mode=RecallMode.LEXICAL)) == []


async def test_who_is_asked_about_decides_between_people(say: Say, ask: Ask) -> None:
    for name, pet in (("Maria", "a parrot"), ("Oleg", "two cats")):
        await say(f"I have {pet} at home.", conversation=name, speaker=Speaker(name.lower(), name))
    assert contents(await ask("What pet does Oleg have?"))[0] == "I have two cats at home."
    assert contents(await ask("What pet does Maria have?"))[0] == "I have a parrot at home."


async def test_a_half_life_and_a_window_prefer_and_do_not_filter(say: Say, ask: Ask) -> None:
    late = START + timedelta(days=100)
    await say("I live in Lisbon.", conversation="old")
    await say("I live in Porto.", conversation="new", start=late)
    recent = TimePreference(half_life=timedelta(days=7), reference=late)
    strong = RankingOptions(time_weight=2)
    found = await ask("Where do I live?", time_preference=recent, ranking=strong)
    assert contents(found) == ["I live in Porto.", "I live in Lisbon."]
    early = TimePreference(window=TimeRange(START, START + timedelta(days=1)))
    found = await ask("Where do I live?", time_preference=early, ranking=strong)
    assert contents(found) == ["I live in Lisbon.", "I live in Porto."]


async def test_as_of_a_past_moment_shows_what_was_stored_then(say: Say, ask: Ask) -> None:
    await say("I live in Lisbon.")
    [hit] = (await ask("Where do I live?")).hits
    await say("I live in Porto.", conversation="new")
    scope = TurnScope(user_id="ann", as_of=hit.turn.created_at)
    for mode in RecallMode:
        assert contents(await ask("Where do I live?", scope=scope, mode=mode)) == ["I live in Lisbon."]


@pytest.mark.parametrize("mode", [RecallMode.FUSED, RecallMode.VECTOR])
async def test_near_duplicates_collapse_into_the_best(say: Say, ask: Ask, mode: RecallMode) -> None:
    same = ["My locker code is 4417.", "my locker code is 4417.", "My locker code is 4417."]
    await say(*same, *FILLER)
    ranking = RankingOptions(duplicate_similarity=0.97)
    found = await ask("What is my locker code?", mode=mode, ranking=ranking, top_k=4)
    assert len(found.hits) == 4
    assert len(found.hits[0].duplicate_turn_ids) == 2
    assert sum(hit.turn.content in same for hit in found.hits) == 1


async def test_context_comes_in_order_without_the_hit_and_a_budget_counts_it(say: Say, ask: Ask) -> None:
    await say(*FILLER)
    found = await ask("novel about whales", top_k=2, neighbours=2)
    assert [turn.content for turn in found.hits[0].context] == [FILLER[1], FILLER[2], FILLER[4], FILLER[5]]
    assert not found.budget_reached
    one = found.hits[0].turn.token_count + sum(turn.token_count for turn in found.hits[0].context)
    tight = await ask("novel about whales", top_k=2, neighbours=2, token_budget=one)
    assert tight.budget_reached
    assert contents(tight) == contents(found)[:1]
    assert len((await ask("novel about whales", token_budget=1)).hits) == 1


async def test_explained_parts_add_up_and_a_least_score_cuts(say: Say, ask: Ask) -> None:
    await say(*FILLER)
    found = await ask("what was moved to Thursday?", explain=True, top_k=8)
    for hit in found.hits:
        assert sum(part.normalized * part.weight for part in hit.parts) == pytest.approx(hit.score)
    assert {"embed", "database", "rank"} <= found.timings.keys()
    least = found.hits[2].score
    cut = await ask("what was moved to Thursday?", ranking=RankingOptions(min_score=least - 1e-9), top_k=8)
    assert len(cut.hits) == 3


CHATS = (
    ("I switched to oat milk because dairy upsets my stomach.", "Noted. Oat milk froths well in coffee."),
    ("My daughter Lea starts school in Bergen in August.", "How exciting! Do you need a packing list?"),
    ("The boiler makes a knocking noise at night.", "That is often trapped air: bleed the radiators."),
    ("I would rather fly in the morning.", "I will look for departures before ten."),
    ("I am allergic to penicillin.", "I will keep that in mind when we talk about medicine."),
    ("We agreed on 4,200 euros for the kitchen.", "Shall I draft the confirmation?"),
    ("Which bread flour should I buy?", "Take one with thirteen percent protein."),
    ("How do I keep basil alive?", "Water it from below and pinch off the flowers."),
)
QUESTIONS = (
    ("Why did I stop drinking dairy?", 0, 0),
    ("Where does my daughter go to school?", 1, 0),
    ("What did you say about the boiler noise?", 2, 1),
    ("At which time of day do I like to fly?", 3, 0),
    ("Which medicine am I allergic to?", 4, 0),
    ("How much did we agree to pay for the kitchen?", 5, 0),
    ("What flour did you recommend?", 6, 1),
    ("What was your advice about basil?", 7, 1),
    ("What did you tell me about radiators?", 2, 1),
    ("What will you keep in mind about medicine?", 4, 1),
)


async def test_chats_of_user_and_assistant_gain_over_meaning_alone(
    ask: Ask, conversation_memory: ConversationMemory, caller: Caller
) -> None:
    for number, (user, assistant) in enumerate(CHATS):
        start = START + timedelta(days=number)
        await conversation_memory.append(
            caller,
            [
                NewTurn(AGENT, "ann", f"chat-{number}", Role.USER, user, start),
                NewTurn(
                    AGENT, "ann", f"chat-{number}", Role.ASSISTANT, assistant, start + timedelta(seconds=5)
                ),
            ],
        )
    first: dict[RecallMode, float] = {}
    for mode in (RecallMode.FUSED, RecallMode.VECTOR):
        places = [
            contents(await ask(query, mode=mode, top_k=16)).index(CHATS[chat][turn]) + 1
            for query, chat, turn in QUESTIONS
        ]
        first[mode] = sum(1 / place for place in places) / len(places)
    assert first[RecallMode.FUSED] > first[RecallMode.VECTOR]
