"""PDF to text, page by page, with the headings of its outline."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import pypdfium2
import pypdfium2.raw as pdfium

from memsidecar.domain.document_reading import Block, UnreadableDocument
from memsidecar.parsing.plain_text import text_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PAGES = 10_000
_BREAK_IN_WORD = re.compile("(?:\ufffe|\x02)\\s*|(?<=[^\\W\\d_])\u00ad\\s*")
"""PDFium marks a hyphen that only a line end asked for with U+FFFE or U+0002."""
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_FILE_NAME = re.compile(r"\.\w{2,5}$|^untitled|^microsoft word", re.IGNORECASE)
_ERRORS = {
    pdfium.FPDF_ERR_PASSWORD: "it is encrypted: send it without a password",
    pdfium.FPDF_ERR_SECURITY: "it is encrypted in a way that cannot be read: send it without protection",
}
_BROKEN = "it is not a whole PDF: open it in its own program and save it again"


def pdf_blocks(raw: bytes, most_characters: int) -> tuple[str, str, list[Block]]:
    """Give the title, empty when there is none, the text of all pages with blank lines between them, and its blocks.

    Raises:
        UnreadableDocument: It is encrypted, broken, without a text layer, or too large.
    """
    try:
        document = pypdfium2.PdfDocument(raw)
    except pypdfium2.PdfiumError as error:
        raise UnreadableDocument(_ERRORS.get(getattr(error, "err_code", None), _BROKEN)) from error
    try:
        return _read(document, most_characters)
    finally:
        document.close()


def _read(document: pypdfium2.PdfDocument, most_characters: int) -> tuple[str, str, list[Block]]:
    if len(document) > MAX_PAGES:
        raise UnreadableDocument(
            f"it has {len(document):,} pages: split it into parts of at most {MAX_PAGES:,}"
        )
    content: list[str] = []
    length = 0
    starts: list[int] = []
    for number in range(len(document)):
        text = _page_text(document, number)
        if content:
            content.append("\n\n")
            length += 2
        starts.append(length)
        content.append(text)
        length += len(text)
        if length > most_characters:
            raise UnreadableDocument(f"it holds more than {most_characters:,} characters of text: split it")
    whole = "".join(content)
    if not whole.strip():
        raise UnreadableDocument(
            "it has no text layer, as scans have none: run it through text recognition first"
        )
    headings = list(_headings(document, whole, starts))
    return _title(document), whole, list(_blocks(whole, starts, headings))


def _page_text(document: pypdfium2.PdfDocument, number: int) -> str:
    """Give the text of a page; one that is broken has none."""
    try:
        page = document[number]
    except pypdfium2.PdfiumError:
        return ""
    try:
        text_page = page.get_textpage()
        try:
            text = text_page.get_text_bounded()
        finally:
            text_page.close()
    finally:
        page.close()
    joined = _BREAK_IN_WORD.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _UNPRINTABLE.sub("", joined).strip()


def _title(document: pypdfium2.PdfDocument) -> str:
    """Give the title in the document's properties, unless a program put a file name there."""
    title = " ".join(_UNPRINTABLE.sub("", document.get_metadata_value("Title")).split())
    return "" if _FILE_NAME.search(title) else title


def _headings(
    document: pypdfium2.PdfDocument, content: str, starts: list[int]
) -> Iterator[tuple[int, int, str]]:
    """Give (place, level, text) of each entry of the outline whose page has it, in the order of the text."""
    found = []
    for entry in document.get_toc(max_depth=15):
        destination = entry.get_dest()
        page = destination.get_index() if destination is not None else None
        text = " ".join(_UNPRINTABLE.sub("", entry.get_title()).split())
        if page is None or not 0 <= page < len(starts) or not text:
            continue
        end = starts[page + 1] if page + 1 < len(starts) else len(content)
        words = r"\s+".join(re.escape(word) for word in text.split())
        written = re.compile(words, re.IGNORECASE).search(content, starts[page], end)
        found.append((written.start() if written else starts[page], entry.level, text))
    yield from sorted(found, key=lambda heading: heading[0])


def _blocks(content: str, starts: list[int], headings: list[tuple[int, int, str]]) -> Iterator[Block]:
    """Split the text where pages begin, where headings begin, and at blank lines."""
    path: list[tuple[int, str]] = []
    next_heading = 0
    cuts = sorted({*starts, *(place for place, _, _ in headings), len(content)})
    page = 0
    for start, end in itertools.pairwise(cuts):
        while page < len(starts) and starts[page] <= start:
            page += 1
        while next_heading < len(headings) and headings[next_heading][0] <= start:
            _, level, text = headings[next_heading]
            path = [(above, heading) for above, heading in path if above < level] + [(level, text)]
            next_heading += 1
        names = tuple(text for _, text in path)
        for block in text_blocks(content[start:end]):
            yield Block(start + block.start, start + block.end, names, page)
