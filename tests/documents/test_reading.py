"""Every type of document becomes text, headings and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memsidecar.domain.document_reading import SourceDocument, UnreadableDocument
from memsidecar.domain.documents import DocumentType
from memsidecar.parsing.html import html_blocks
from memsidecar.parsing.markdown import markdown_blocks
from memsidecar.parsing.pdf import pdf_blocks
from memsidecar.parsing.reader import read_document
from memsidecar.parsing.source_code import code_blocks
from tests.documents.pdf_files import pdf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memsidecar.domain.chunking import WordPieces
    from memsidecar.domain.document_reading import Block


def shown(content: str, blocks: Sequence[Block]) -> list[tuple[tuple[str, ...], str]]:
    return [(block.heading_path, content[block.start : block.end].strip()) for block in blocks]


def test_markdown_keeps_its_headings_lists_tables_and_code() -> None:
    content = "\r\n".join(
        [
            "---",
            "title: 'Travel handbook'",
            "---",
            "# Travel *abroad*",
            "",
            "Book early.",
            "",
            "Rules",
            "-----",
            "- one",
            "- two",
            "",
            "| a | b |",
            "|---|---|",
            "| 1 | 2 |",
            "",
            "```python",
            "# not a heading",
            "```",
            "",
            "[link]: https://example.org",
        ]
    )
    title, blocks = markdown_blocks(content)
    assert title == "Travel handbook"
    found = shown(content, blocks)
    assert (("Travel abroad",), "Book early.") in found
    assert (("Travel abroad", "Rules"), "- one") in found
    assert (("Travel abroad", "Rules"), "```python\r\n# not a heading\r\n```") in found
    assert (("Travel abroad", "Rules"), "[link]: https://example.org") in found
    assert "\n".join(text for _, text in found).split() == content.split()


def test_html_becomes_what_a_reader_sees() -> None:
    title, content, blocks = html_blocks(
        """<!doctype html><title>Site | Travel</title><style>p{}</style>
        <nav><a href=/>Home</a></nav><script>track()</script>
        <h1>Travel</h1><p>Book <b>early</b>,
        it is   cheaper.<br>Really.</p>
        <h2>Refunds</h2><ul><li>ten days<li>by <em>bank</em></ul>
        <table><tr><th>Class<th>Price<tr><td><p>First</p><td>90</table>
        <pre>  keep
    this</pre><div hidden>secret</div><footer>(c) us</footer>"""
    )
    assert title == "Travel"
    assert shown(content, blocks) == [
        (("Travel",), "Travel"),
        (("Travel",), "Book early, it is cheaper.\nReally."),
        (("Travel", "Refunds"), "Refunds"),
        (("Travel", "Refunds"), "- ten days"),
        (("Travel", "Refunds"), "- by bank"),
        (("Travel", "Refunds"), "Class | Price"),
        (("Travel", "Refunds"), "First | 90"),
        (("Travel", "Refunds"), "keep\n    this"),
    ]


def test_the_main_part_of_a_page_is_what_is_kept() -> None:
    _, content, _ = html_blocks("<aside>Other news</aside><main><p>The story.</p></main>")
    assert content == "The story."


def test_a_page_of_navigation_alone_is_kept_whole() -> None:
    _, content, _ = html_blocks("<nav><ul><li>Home<li>Imprint</ul></nav>")
    assert content == "- Home\n- Imprint"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("<p>Grüße</p>".encode(), "Grüße"),
        ('<meta charset="iso-8859-1"><p>Grüße “x”</p>'.encode("cp1252"), "Grüße “x”"),
        ("<p>Grüße</p>".encode("cp1252"), "Grüße"),
        ("\ufeff<p>Grüße</p>".encode("utf-16-le"), "Grüße"),
    ],
)
def test_pages_are_decoded_as_browsers_do(raw: bytes, text: str, word_pieces: WordPieces) -> None:
    assert read_document(SourceDocument("a.html", raw), word_pieces).content == text


def test_a_pdf_has_pages_and_the_headings_of_its_outline() -> None:
    title, content, blocks = pdf_blocks(
        pdf(
            ["Travel", "Book early."],
            ["Refunds", "Ten days."],
            outline=[("Travel", 0), ("Refunds", 1)],
            title="Handbook of travel",
        ),
        1_000,
    )
    assert title == "Handbook of travel"
    assert [(block.page, block.heading_path) for block in blocks] == [(1, ("Travel",)), (2, ("Refunds",))]
    assert [content[block.start : block.end] for block in blocks] == [
        "Travel\nBook early.",
        "Refunds\nTen days.",
    ]


def test_code_is_cut_at_its_functions_and_named_by_them() -> None:
    content = '''"""Módulo."""
import os

# Says hello.
@decorated
def greet(name):
    return f"hello {name}"


class Robot:
    """A robot."""

    def walk(self):
        return os.name
'''
    assert shown(content, code_blocks(content, "py")) == [
        ((), '"""Módulo."""\nimport os'),
        (("greet",), '# Says hello.\n@decorated\ndef greet(name):\n    return f"hello {name}"'),
        (("Robot",), 'class Robot:\n    """A robot."""'),
        (("Robot", "walk"), "def walk(self):\n        return os.name"),
    ]


@pytest.mark.parametrize(
    ("extension", "content", "paths"),
    [
        ("c", "static int *find(int a) { return 0; }\nint main(void) { return 1; }", {("find",), ("main",)}),
        ("cpp", "namespace n { class A { void f() {} }; }", {("n", "A", "f")}),
        ("cs", "namespace N { class A { void M() {} } }", {("N", "A", "M")}),
        ("go", "package a\nfunc (s *S) Serve() {}\n", {("Serve",)}),
        ("java", "class A { /** d */ void m() {} }", {("A", "m")}),
        ("js", "const f = () => { return 1 }; class B { c() {} }", {("f",), ("B", "c")}),
        ("php", "<?php class B { function c() {} }", {("B", "c")}),
        ("rb", "module M\n  class A\n    def foo; end\n  end\nend", {("M", "A", "foo")}),
        ("rs", "impl S { pub fn new() -> S { S } }", {("S", "new")}),
        ("sh", "foo() { echo 1; }", {("foo",)}),
        ("ts", "export class Foo { bar(): number { return 1 } }", {("Foo", "bar")}),
        ("tsx", "export const View = () => <p>x</p>;", {("View",)}),
    ],
)
def test_the_syntax_of_each_language_is_known(
    extension: str, content: str, paths: set[tuple[str, ...]]
) -> None:
    assert paths <= {block.heading_path for block in code_blocks(content, extension)}


def test_code_in_another_language_is_cut_at_blank_lines() -> None:
    content = "a = 1\nb = 2\n\nc = 3\n"
    assert [text for _, text in shown(content, code_blocks(content, "toml"))] == ["a = 1\nb = 2", "c = 3"]


@pytest.mark.parametrize(
    ("key", "raw", "kind"),
    [
        ("a.md", b"# x", DocumentType.MARKDOWN),
        ("https://example.org/a.HTML?x=1", b"<p>x", DocumentType.HTML),
        ("page", b"<!DOCTYPE html><p>x", DocumentType.HTML),
        ("tool.py", b"x = 1", DocumentType.CODE),
        ("notes", b"x = 1", DocumentType.TEXT),
        ("scan", pdf(["x"]), DocumentType.PDF),
    ],
)
def test_the_type_is_guessed(key: str, raw: bytes, kind: DocumentType, word_pieces: WordPieces) -> None:
    assert read_document(SourceDocument(key, raw), word_pieces).document_type is kind


@pytest.mark.parametrize(
    ("key", "raw", "kind", "problem"),
    [
        ("a.txt", b"caf\xe9 au lait", None, "byte 3 does not fit"),
        ("a.txt", b"good\x00bad", None, "NUL"),
        ("a.txt", "mixed ü ".encode() + "ü".encode("cp1252") * 3, None, "not UTF-8"),
        ("a.txt", b" \n\t ", None, "no text"),
        ("a.html", b'<meta charset="utf-8"><p>\xff\xfe\xfd', None, "declares the encoding utf-8"),
        ("a.html", b"<script>x</script>", None, "no text"),
        ("a.docx", b"PK\x03\x04rest", None, "ZIP archive or an Office file"),
        ("a.gz", b"\x1f\x8b\x08rest", None, "gzip"),
        ("a.png", b"\x89PNG\r\n", DocumentType.TEXT, "PNG"),
        ("a.pdf", b"Not a PDF.", None, "does not begin with %PDF-"),
        ("a", b"Not a PDF.", DocumentType.PDF, "not a PDF"),
        ("a.md", pdf(["x"]), DocumentType.MARKDOWN, "is a PDF"),
        ("a.pdf", b"%PDF-1.7\ncut off", None, "not a whole PDF"),
        ("a.pdf", pdf(["x"])[:-300], None, "no text layer|not a whole PDF"),
        ("a.pdf", pdf(["secret"], password="s"), None, "encrypted"),
        ("a.pdf", pdf([]), None, "no text layer"),
    ],
)
def test_what_cannot_be_read_says_why(
    key: str, raw: bytes, kind: DocumentType | None, problem: str, word_pieces: WordPieces
) -> None:
    with pytest.raises(UnreadableDocument, match=problem):
        read_document(SourceDocument(key, raw, kind), word_pieces)


def test_a_small_file_with_too_much_text_is_refused() -> None:
    with pytest.raises(UnreadableDocument, match="more than 20 characters"):
        pdf_blocks(pdf(["a long line of text"], ["another long line"]), 20)
