"""Bytes to text, or a sentence that says why they are not."""

from __future__ import annotations

import codecs

from memsidecar.domain.document_reading import UnreadableDocument

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks; that of UTF-32 begins with that of UTF-16, so it is looked for first."""


def marked_encoding(raw: bytes) -> tuple[str, bytes] | None:
    """Give the encoding a byte order mark names and the bytes after the mark; None without one."""
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return encoding, raw[len(mark) :]
    return None


def decode_text(raw: bytes) -> str:
    """Decode UTF-8, or what a byte order mark says. Line ends stay as they are.

    Raises:
        UnreadableDocument: The bytes are something else.
    """
    encoding, rest = marked_encoding(raw) or ("utf-8", raw)
    try:
        text = rest.decode(encoding)
    except UnicodeDecodeError as error:
        position = len(raw) - len(rest) + error.start
        raise UnreadableDocument(
            f"it is not {encoding.upper()} text: byte {position:,} does not fit; convert it to UTF-8, or name its"
            " document type if it is not text"
        ) from error
    if "\x00" in text:
        raise UnreadableDocument(
            f"it is not text: it holds the NUL character at position {text.index(chr(0)):,}; send text, or name its"
            " document type"
        )
    return text
