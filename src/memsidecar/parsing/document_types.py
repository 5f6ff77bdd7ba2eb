"""Tells what kind of text some bytes are, and whether they are what they are said to be."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from memsidecar.domain.document_reading import UnreadableDocument
from memsidecar.domain.documents import DocumentType

_PDF_MARK = b"%PDF-"
_PDF_MARK_WITHIN = 1024
"""Readers accept bytes before the mark up to here (ISO 32000-1, annex H, note 13)."""
_HTML_START = re.compile(
    rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_EXTENSIONS = {
    DocumentType.MARKDOWN: {"md", "markdown", "mdown", "mkd", "mdx"},
    DocumentType.HTML: {"html", "htm", "xhtml"},
    DocumentType.PDF: {"pdf"},
    DocumentType.TEXT: {"txt", "text", "log", "csv", "tsv", "rst", "adoc", "org"},
}
_BY_EXTENSION = {extension: kind for kind, extensions in _EXTENSIONS.items() for extension in extensions}
_SIGNATURES = (
    (b"PK\x03\x04", "a ZIP archive or an Office file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"(\xb5/\xfd", "a Zstandard archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x7fELF", "a program"),
)


def extension_of(document_key: str) -> str:
    """Give the extension in a path or URL, in lower case, without its dot; empty when there is none."""
    path = document_key.partition("?")[0].partition("#")[0]
    return PurePosixPath(path.replace("\\", "/")).suffix[1:].lower()


def document_type(
    document_key: str, raw: bytes, declared: DocumentType | None, code_extensions: frozenset[str]
) -> DocumentType:
    """Give the type of a document.

    Args:
        document_key: A name; its extension counts when nothing else tells.
        raw: The bytes; only their beginning is looked at.
        declared: What the sender says it is; None to guess.
        code_extensions: Extensions of source code.

    Raises:
        UnreadableDocument: It is a kind of file that is not taken in, or not what it is said to be.
    """
    head = raw[:_PDF_MARK_WITHIN]
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            raise UnreadableDocument(
                f"it is {name}, which is not taken in: send text, Markdown, HTML, PDF or code"
            )
    looks_like_pdf = _PDF_MARK in head
    if declared is DocumentType.PDF and not looks_like_pdf:
        raise UnreadableDocument(
            "it is not a PDF: it does not begin with %PDF-; leave the document type out to guess"
        )
    if declared not in {None, DocumentType.PDF} and head.startswith(_PDF_MARK):
        raise UnreadableDocument(
            "it is a PDF but is said to be something else: leave the document type out to guess"
        )
    if declared is not None:
        return declared
    guessed = DocumentType.PDF if looks_like_pdf else _guess(document_key, head, code_extensions)
    if guessed is DocumentType.PDF and not looks_like_pdf:
        raise UnreadableDocument("its name says PDF but it does not begin with %PDF-: send the PDF itself")
    return guessed


def _guess(document_key: str, head: bytes, code_extensions: frozenset[str]) -> DocumentType:
    extension = extension_of(document_key)
    if extension in _BY_EXTENSION:
        return _BY_EXTENSION[extension]
    if extension in code_extensions:
        return DocumentType.CODE
    return DocumentType.HTML if _HTML_START.match(head) else DocumentType.TEXT
