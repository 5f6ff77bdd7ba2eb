from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memsidecar.embedding.tokenization import WordPieceTokenizer

if TYPE_CHECKING:
    from memsidecar.embedding.model_files import InstalledModel

CLS, SEP = 101, 102


@pytest.fixture(scope="module")
def tokenizer(installed_fp32: InstalledModel) -> WordPieceTokenizer:
    return WordPieceTokenizer(installed_fp32.tokenizer)


def test_a_text_of_256_word_pieces_is_read_whole(tokenizer: WordPieceTokenizer) -> None:
    pieces = tokenizer.encode("tea " * 254)
    assert (pieces.token_count, len(pieces.ids), pieces.truncated) == (256, 256, False)


def test_one_word_piece_more_is_cut_and_reported(tokenizer: WordPieceTokenizer) -> None:
    pieces = tokenizer.encode("tea " * 254 + "coffee")
    assert (pieces.token_count, len(pieces.ids), pieces.truncated) == (257, 256, True)
    assert pieces.ids == tokenizer.encode("tea " * 254).ids


def test_every_text_is_framed_by_its_special_tokens(tokenizer: WordPieceTokenizer) -> None:
    for text in ("", "one", "word " * 400):
        ids = tokenizer.encode(text).ids
        assert (ids[0], ids[-1]) == (CLS, SEP)


def test_offsets_are_character_spans_of_the_original_text(tokenizer: WordPieceTokenizer) -> None:
    text = "Zoë's  Überraschung, 火曜 🎉!"
    words = [text[start:end] for start, end in tokenizer.offsets(text)]
    assert "".join(words).replace("##", "") == "".join(text.split())
    assert "火" in words
    assert "Zoë" in "".join(words)


def test_offsets_cover_texts_longer_than_the_model_reads(tokenizer: WordPieceTokenizer) -> None:
    text = "tea " * 1000
    assert len(tokenizer.offsets(text)) == 1000
    assert tokenizer.offsets(text)[-1] == (3996, 3999)
