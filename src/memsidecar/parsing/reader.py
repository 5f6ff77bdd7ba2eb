"""Reads one document, in whatever process it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memsidecar.domain.chunking import WordPieces, cut_passages
from memsidecar.domain.document_reading import Block, ReadDocument, SourceDocument, UnreadableDocument
from memsidecar.domain.documents import DocumentType
from memsidecar.domain.limits import MAX_DOCUMENT_CHARACTERS, MAX_TITLE_CHARACTERS
from memsidecar.parsing.decoding import decode_text
from memsidecar.parsing.document_types import document_type, extension_of
from memsidecar.parsing.html import decode_html, html_blocks
from memsidecar.parsing.markdown import markdown_blocks
from memsidecar.parsing.pdf import pdf_blocks
from memsidecar.parsing.plain_text import text_blocks
from memsidecar.parsing.source_code import CODE_EXTENSIONS, code_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence


def read_document(source: SourceDocument, word_pieces: WordPieces) -> ReadDocument:
    """Turn bytes into text and passages.

    Raises:
        UnreadableDocument: The document is broken, encrypted, empty or of another type.
    """
    kind = document_type(source.document_key, source.raw, source.document_type, CODE_EXTENSIONS)
    found_title, content, blocks = _text_of(kind, source)
    if len(content) > MAX_DOCUMENT_CHARACTERS:
        raise UnreadableDocument(
            f"it holds more than {MAX_DOCUMENT_CHARACTERS:,} characters of text: split it"
        )
    title = " ".join((source.title or found_title).split())[:MAX_TITLE_CHARACTERS].rstrip()
    passages = tuple(cut_passages(content, title, blocks, word_pieces))
    if not passages:
        raise UnreadableDocument("it holds no text")
    return ReadDocument(
        document_type=kind,
        title=title or source.document_key[:MAX_TITLE_CHARACTERS],
        titled=bool(title),
        content=content,
        passages=passages,
    )


def _text_of(kind: DocumentType, source: SourceDocument) -> tuple[str, str, Sequence[Block]]:
    """Give the title found in a document, its text, and the blocks of that."""
    if kind is DocumentType.PDF:
        return pdf_blocks(source.raw, MAX_DOCUMENT_CHARACTERS)
    if kind is DocumentType.HTML:
        return html_blocks(decode_html(source.raw))
    content = decode_text(source.raw)
    if kind is DocumentType.MARKDOWN:
        title, blocks = markdown_blocks(content)
        return title, content, blocks
    if kind is DocumentType.CODE:
        return "", content, code_blocks(content, extension_of(source.document_key))
    return "", content, list(text_blocks(content))
