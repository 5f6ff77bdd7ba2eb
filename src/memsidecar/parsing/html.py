"""HTML to readable text: what a reader sees of the page, without what the site puts around it.

The content is text of its own, not the markup: paragraphs and headings with blank lines between them, list items and
table rows one a line.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from selectolax.lexbor import LexborHTMLParser

from memsidecar.domain.document_reading import Block, UnreadableDocument
from memsidecar.parsing.decoding import decode_text, marked_encoding
from memsidecar.parsing.word_sets import words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selectolax.lexbor import LexborNode

_DECLARED_WITHIN = 1024
"""Bytes in which the HTML standard looks for the encoding."""
_DECLARED = re.compile(
    rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w-]+)|<\?xml[^>]+encoding\s*=\s*[\"']([\w-]+)", re.IGNORECASE
)
_READ_AS_WINDOWS_1252 = frozenset({"ascii", "iso8859-1"})
"""The HTML standard reads these labels as windows-1252."""

_NEVER_TEXT = words("""
    script style template noscript iframe object embed svg math canvas audio video head datalist
    select textarea button input dialog
""")
_AROUND_THE_TEXT = frozenset({"nav", "footer", "menu"})
_ROLES_AROUND_THE_TEXT = frozenset(
    {"navigation", "contentinfo", "search", "menu", "menubar", "toolbar", "alert", "dialog"}
)
_BLOCKS = words("""
    address article aside blockquote body caption center details dd dir div dl dt fieldset
    figcaption figure form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main ol p pre section
    summary table tbody tfoot thead tr ul
""")
_LINES = frozenset({"li", "dt", "dd", "tr", "summary", "caption"})
"""Blocks that stand line by line, not with a blank line between them."""
_CELLS = frozenset({"td", "th"})
_BLANKS = re.compile(r"[^\S\xa0]+|\xa0")


def decode_html(raw: bytes) -> str:
    """Decode a page as browsers do: byte order mark, declaration, UTF-8, and windows-1252 when it is none of these.

    Raises:
        UnreadableDocument: The bytes do not fit what the page declares, or are no text.
    """
    declared = _DECLARED.search(raw[:_DECLARED_WITHIN])
    if marked_encoding(raw) is not None:
        return decode_text(raw)
    if declared is None:
        try:
            return decode_text(raw)
        except UnreadableDocument:
            encoding = "cp1252"
    else:
        encoding = _python_name((declared[1] or declared[2]).decode("ascii"))
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableDocument(
            f"it declares the encoding {encoding} but byte {error.start:,} does not fit: convert it to UTF-8"
        ) from error
    if "\x00" in text:
        raise UnreadableDocument("it is not text: it holds the NUL character; convert it to UTF-8")
    return text


def html_blocks(markup: str) -> tuple[str, str, list[Block]]:
    """Give the title, empty when there is none, the readable text, and its blocks."""
    page = LexborHTMLParser(markup)
    found_title = page.css_first("head > title")
    title = " ".join(found_title.text().split()) if found_title is not None else ""
    writer = _Writer()
    for root in _roots(page):
        writer = _written(root, without_surroundings=True)
        if not writer.blocks:
            writer = _written(root, without_surroundings=False)
        if writer.blocks:
            break
    return writer.first_heading or title, "".join(writer.parts), writer.blocks


def _roots(page: LexborHTMLParser) -> Iterator[LexborNode]:
    """Give where the text may be: in the one main element, else anywhere."""
    mains = page.css("main, [role=main]")
    if len(mains) == 1:
        yield mains[0]
    if page.body is not None:
        yield page.body


def _python_name(label: str) -> str:
    try:
        name = codecs.lookup(label).name
    except LookupError:
        return "utf-8"
    return "cp1252" if name in _READ_AS_WINDOWS_1252 else name


class _Writer:
    """Puts text together and remembers what stands where."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.blocks: list[Block] = []
        self.first_heading = ""
        self._length = 0
        self._line: list[str] = []
        self._headings: list[tuple[int, str]] = []
        self._open: list[str] = []
        """Tags of the blocks around what is being written."""
        self._last = ""
        self._verbatim = 0
        self._cells = 0

    def text(self, text: str) -> None:
        self._line.append(text if self._verbatim else _BLANKS.sub(" ", text))

    def enter(self, tag: str) -> None:
        if self._ends_line(tag):
            self.end_block()
            self._open.append(tag)
        if tag == "pre":
            self._verbatim += 1
        elif tag == "br":
            self._line.append("\n")
        elif tag == "li":
            self._line.append("- ")
        elif tag in _CELLS:
            self._cells += 1

    def leave(self, tag: str) -> None:
        if tag in _CELLS:
            self._cells -= 1
            self._line.append(" | ")
        elif self._ends_line(tag):
            self.end_block()
            self._open.pop()
            self._verbatim -= tag == "pre"
        elif tag in _BLOCKS:
            self._line.append(" ")

    def _ends_line(self, tag: str) -> bool:
        """Whether a tag starts and ends a block; paragraphs inside a table's cell only part its words."""
        return tag in _BLOCKS and not (self._cells and tag in {"p", "div"})

    def end_block(self) -> None:
        """End what was written since the last block."""
        tag = self._open[-1] if self._open else ""
        text = "".join(self._line)
        self._line = []
        if self._verbatim:
            text = text.strip("\r\n")
        else:
            text = "\n".join(line for line in (" ".join(line.split()) for line in text.split("\n")) if line)
            text = text.removesuffix(" |")
        if not text.strip("- |\n"):
            return
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            heading = " ".join(text.split())
            self._headings = [(level, above) for level, above in self._headings if level < int(tag[1])]
            self._headings.append((int(tag[1]), heading))
            self.first_heading = self.first_heading or heading
        self._put("" if not self.parts else "\n" if tag in _LINES and self._last in _LINES else "\n\n")
        self._last = tag
        start = self._length
        self._put(text)
        path = tuple(heading for _, heading in self._headings)
        self.blocks.append(Block(start, self._length, path, by_line=bool(self._verbatim)))

    def _put(self, text: str) -> None:
        self.parts.append(text)
        self._length += len(text)


def _written(root: LexborNode, *, without_surroundings: bool) -> _Writer:
    """Write the text below a node, without recursion: pages may be nested as deep as they like."""
    writer = _Writer()
    node: LexborNode | None = root
    open_nodes: list[LexborNode] = []
    while node is not None:
        below = None
        if node.is_text_node:
            writer.text(node.text_content or "")
        elif node.is_element_node and not _skipped(node, without_surroundings=without_surroundings):
            writer.enter(node.tag or "")
            below = node.first_child
            if below is None:
                writer.leave(node.tag or "")
            else:
                open_nodes.append(node)
        if below is not None:
            node = below
            continue
        following = node.next if open_nodes else None
        while following is None and open_nodes:
            parent = open_nodes.pop()
            writer.leave(parent.tag or "")
            following = parent.next if open_nodes else None
        node = following
    writer.end_block()
    return writer


def _skipped(node: LexborNode, *, without_surroundings: bool) -> bool:
    if node.tag in _NEVER_TEXT:
        return True
    attributes = node.attributes
    if not attributes and node.tag not in _AROUND_THE_TEXT:
        return False
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    return without_surroundings and (
        node.tag in _AROUND_THE_TEXT or attributes.get("role") in _ROLES_AROUND_THE_TEXT
    )
