"""Paragraphs that move to the archive, and patches that are merged."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsidecar.domain.memory_text import merge_patch, move_oldest, size_in_bytes, split_passage

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_patches_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    """The object cases of RFC 7396, appendix A."""
    assert merge_patch(target, patch) == result


@given(target=st.dictionaries(st.text(max_size=3), JSON), patch=st.dictionaries(st.text(max_size=3), JSON))
def test_a_patch_twice_is_a_patch_once(target: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@given(
    paragraphs=st.lists(st.text("aé\t .", min_size=1, max_size=12).filter(str.strip), max_size=8),
    limit=st.integers(0, 60),
)
def test_nothing_is_lost_and_no_more_moves_than_must(paragraphs: list[str], limit: int) -> None:
    text = "\n\n".join(paragraphs)
    moved, rest = move_oldest(text, limit)
    assert re.sub(r"\s", "", "".join(moved) + rest) == re.sub(r"\s", "", text)
    if moved and size_in_bytes(rest) <= limit:
        assert size_in_bytes(moved[-1] + "\n\n" + rest) > limit
    if size_in_bytes(rest) > limit:
        assert "\n\n" not in rest.strip()


def test_a_text_within_the_limit_stays() -> None:
    assert move_oldest("one\n\ntwo", 8) == ([], "one\n\ntwo")


def test_blank_lines_of_any_kind_separate() -> None:
    assert move_oldest("one\r\n \r\n\n\ntwo\nlines", 9) == (["one\r"], "two\nlines")


def words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\w", text)]


@given(text=st.text("ab ", min_size=1, max_size=2000).filter(str.strip))
def test_passages_hold_the_whole_paragraph_and_fit_the_model(text: str) -> None:
    passages = split_passage(text, words)
    assert "".join(passages).replace(" ", "") == text.replace(" ", "")
    assert all(len(words(passage)) <= 254 for passage in passages)


def test_passages_end_between_words() -> None:
    text = " ".join(["abcdefgh"] * 100)
    assert all(set(passage.split(" ")) == {"abcdefgh"} for passage in split_passage(text, words))
