"""The vectors are those of the published model, worked out independently (see golden.py)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from memsidecar.embedding.model_files import Precision, open_installed
from memsidecar.embedding.session import ModelSession
from memsidecar.embedding.tokenization import WordPieceTokenizer
from tests.embedding.golden import GOLDEN, TEXTS

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = json.loads(GOLDEN.read_text())
EXPECTED = np.array([np.frombuffer(base64.b64decode(entry["vector"]), "<f4") for entry in ENTRIES])


def embed(root: Path, precision: Precision, *, together: bool) -> np.ndarray:
    model = open_installed(root, precision)
    tokenizer, session = WordPieceTokenizer(model.tokenizer), ModelSession(model)
    texts = [tokenizer.encode(text).ids for text in TEXTS]
    vectors = session.run(texts) if together else [session.run([text])[0] for text in texts]
    return np.array([np.frombuffer(vector, "<f4") for vector in vectors])


def cosines(vectors: np.ndarray) -> np.ndarray:
    result: np.ndarray = (vectors.astype(np.float64) * EXPECTED).sum(axis=1)
    return result


def test_the_golden_file_holds_the_texts_of_its_script() -> None:
    assert [entry["text"] for entry in ENTRIES] == TEXTS


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "unequal lengths in one run"])
def test_float32_vectors_are_those_of_the_published_model(model_directory: Path, together: bool) -> None:
    vectors = embed(model_directory, Precision.FP32, together=together)
    assert cosines(vectors).min() >= 0.9999
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_int8_vectors_stay_near_the_published_ones(model_directory: Path) -> None:
    vectors = embed(model_directory, Precision.INT8, together=False)
    assert cosines(vectors).min() >= 0.975
    assert cosines(vectors).mean() >= 0.99
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("precision", Precision)
def test_a_vector_does_not_depend_on_the_texts_it_shares_a_run_with(
    model_directory: Path, precision: Precision
) -> None:
    alone = embed(model_directory, precision, together=False)
    assert embed(model_directory, precision, together=True) == pytest.approx(alone, abs=1e-3)


def test_token_counts_are_of_the_whole_text(model_directory: Path) -> None:
    tokenizer = WordPieceTokenizer(open_installed(model_directory, Precision.FP32).tokenizer)
    for entry in ENTRIES:
        pieces = tokenizer.encode(entry["text"])
        assert pieces.token_count == entry["token_count"]
        assert len(pieces.ids) == min(entry["token_count"], 256)
        assert pieces.truncated == (entry["token_count"] > 256)
