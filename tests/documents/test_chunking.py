"""Passages point exactly into the text, leave nothing out, and fit the model."""

from __future__ import annotations

import random
import sysconfig
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memsidecar.domain.chunking import BUDGET, OVERLAP, context_of, cut_passages, embedded_text
from memsidecar.domain.document_reading import Block, SourceDocument, UnreadableDocument
from memsidecar.domain.documents import DocumentType
from memsidecar.parsing.reader import read_document
from tests.documents.pdf_files import pdf

if TYPE_CHECKING:
    from memsidecar.domain.chunking import WordPieces
    from memsidecar.domain.document_reading import ReadDocument

EXAMPLES = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
WORDS = [
    "the",
    "refund",
    "naïve",
    "Überweisung",
    "getUserId",
    "snake_case",
    "東京",
    "🙂",
    "e\u0301",
    "x" * 130,
    "ЁЖ",
]
JOINTS = [" ", ". ", "\n", "\r\n", "\n\n", "\t", "。", "! ", "\u00a0", "\x0c", "\u2028", "-", ""]
texts = st.lists(
    st.tuples(st.sampled_from(WORDS) | st.text(max_size=8), st.sampled_from(JOINTS)), min_size=1, max_size=700
).map(lambda parts: "".join(word + joint for word, joint in parts).replace("\x00", ""))


def check(document: ReadDocument, word_pieces: WordPieces) -> None:
    """Hold what must be true of every document."""
    title = document.title if document.titled else ""
    covered = bytearray(len(document.content))
    for passage in document.passages:
        text = document.content[passage.start : passage.end]
        assert 0 <= passage.start < passage.end <= len(document.content)
        assert not text.isspace()
        context = context_of(title, passage.heading_path, word_pieces)
        assert len(word_pieces(embedded_text(context, text))) <= BUDGET
        covered[passage.start : passage.end] = b"\1" * len(text)
    for before, after in pairwise(document.passages):
        assert before.start < after.start
        assert before.end < after.end
    left_out = [character for character, seen in zip(document.content, covered, strict=True) if not seen]
    assert not "".join(left_out).strip()


def read(
    key: str, raw: bytes, word_pieces: WordPieces, kind: DocumentType | None = None
) -> ReadDocument | None:
    try:
        return read_document(SourceDocument(key, raw, kind), word_pieces)
    except UnreadableDocument as error:
        assert "no text" in str(error) or "is a PDF" in str(error)  # noqa: PT017 - other errors are failures
        return None


@EXAMPLES
@given(texts)
def test_any_text_is_covered_exactly(word_pieces: WordPieces, text: str) -> None:
    document = read("a.txt", text.encode(), word_pieces)
    if document is not None:
        assert document.content == text.removeprefix("\ufeff")
        check(document, word_pieces)


@EXAMPLES
@given(
    st.lists(
        st.sampled_from(
            ["# ", "## ", "- ", "> ", "```\n", "| a | b |\n|---|---|\n| ", "    ", "***", "[x]: "]
        )
        | texts
    )
)
def test_any_markdown_is_covered_exactly(word_pieces: WordPieces, parts: list[str]) -> None:
    document = read("a.md", "\n".join(parts).encode(), word_pieces)
    if document is not None:
        check(document, word_pieces)


TAGS = [
    "<p>",
    "</p>",
    "<h1>",
    "</h1>",
    "<h3>",
    "<li>",
    "<ul>",
    "</ul>",
    "<table>",
    "<tr>",
    "<td>",
    "<pre>",
    "<br>",
    "<div>",
]


@EXAMPLES
@given(st.lists(st.sampled_from(TAGS) | texts))
def test_any_html_is_covered_exactly(word_pieces: WordPieces, parts: list[str]) -> None:
    document = read("a.html", "".join(parts).encode(), word_pieces, DocumentType.HTML)
    if document is not None:
        check(document, word_pieces)


@EXAMPLES
@given(
    st.sampled_from(["py", "js", "go", "c", "rb", "sql"]),
    st.lists(
        st.sampled_from(
            ["def f(x):\n    return x\n", "class A {\n", "}\n", "# note\n", "/* x */", "func F() {}\n"]
        )
        | texts
    ),
)
def test_any_code_is_covered_exactly(word_pieces: WordPieces, extension: str, parts: list[str]) -> None:
    document = read(f"a.{extension}", "".join(parts).encode(), word_pieces, DocumentType.CODE)
    if document is not None:
        check(document, word_pieces)


def test_pdfs_are_covered_exactly(word_pieces: WordPieces) -> None:
    chosen = random.Random(1)
    words = ["refund", "travel", "handbook", "of", "the", "office", "approval.", "Ask", "first."]
    for _ in range(25):
        pages = [
            [" ".join(chosen.choices(words, k=12)) for _ in range(chosen.randrange(1, 40))]
            for _ in range(chosen.randrange(1, 6))
        ]
        document = read("a.pdf", pdf(*pages, outline=[("Travel", 0)]), word_pieces)
        assert document is not None
        check(document, word_pieces)
        assert {passage.page for passage in document.passages} <= set(range(1, len(pages) + 1))


def real_files() -> list[Path]:
    """A few hundred files of the Python installation: code in many styles, and texts."""
    installed = Path(sysconfig.get_paths()["stdlib"])
    found = sorted(
        path
        for suffix in ("*.py", "*.txt", "*.md", "*.rst", "*.js", "*.css", "*.html")
        for path in installed.rglob(suffix)
        if path.is_file() and path.stat().st_size < 200_000
    )
    return random.Random(7).sample(found, min(300, len(found)))


def test_real_files_are_covered_exactly(word_pieces: WordPieces) -> None:
    read_files = 0
    for path in real_files():
        raw = path.read_bytes()
        try:
            document = read_document(SourceDocument(str(path), raw), word_pieces)
        except UnreadableDocument:
            continue
        check(document, word_pieces)
        read_files += 1
    assert read_files > 100


def test_sections_are_kept_apart_and_long_ones_overlap(word_pieces: WordPieces) -> None:
    first = "One sentence about refunds and how they are paid out. " * 40
    second = "Another sentence about hotels and who may book them. " * 40
    content = first + second
    blocks = [Block(0, len(first), ("Refunds",)), Block(len(first), len(content), ("Hotels",))]
    passages = list(cut_passages(content, "Handbook", blocks, word_pieces))

    refunds = [passage for passage in passages if passage.heading_path == ("Refunds",)]
    hotels = [passage for passage in passages if passage.heading_path == ("Hotels",)]
    assert len(refunds) > 1
    assert len(refunds) + len(hotels) == len(passages)
    assert all("hotels" not in content[passage.start : passage.end] for passage in refunds)
    for before, after in pairwise(refunds):
        repeated = content[after.start : before.end]
        assert repeated.startswith("One sentence")
        assert 0 < len(word_pieces(repeated)) <= OVERLAP


def test_a_heading_on_its_own_goes_with_what_follows(word_pieces: WordPieces) -> None:
    document = read_document(SourceDocument("a.md", b"# Travel\n\n## Refunds\n\nTen days.\n"), word_pieces)
    [passage] = document.passages
    assert passage.heading_path == ("Travel", "Refunds")
    assert document.content[passage.start : passage.end].startswith("# Travel")


@pytest.mark.parametrize(
    ("title", "headings", "context"),
    [
        ("", (), ""),
        ("Handbook", ("Handbook", "Travel"), "Handbook > Travel"),
        ("Handbook", ("A  b\nc",), "Handbook > A b c"),
        ("word " * 60, ("Travel",), "Travel"),
        ("", ("word " * 60,), ("word " * 48).strip()),
        ("", ("x" * 5_000 + "-" * 100,), ""),
    ],
)
def test_context_is_short(
    title: str, headings: tuple[str, ...], context: str, word_pieces: WordPieces
) -> None:
    assert context_of(title, headings, word_pieces) == context
