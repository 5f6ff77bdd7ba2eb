"""Makes ``golden.json``: what the published model gives for some texts, worked out apart from the program.

The forward pass below is the BERT encoder written out in float64 from its definition (Devlin et al. 2018;
erf GELU; layer norm epsilon 1e-12), with mean pooling over all word pieces and an L2 norm. It shares no
code with the exporter and runs none of ONNX Runtime. Usage, with a directory that holds the published
model.safetensors and tokenizer.json:

    python -m tests.embedding.golden DIRECTORY
"""

from __future__ import annotations

import base64
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

GOLDEN = Path(__file__).with_name("golden.json")
LONGEST = 256

TEXTS = [
    "Hello!",
    "",
    "Ines takes her coffee black and never before ten.",
    "What does Ines drink in the morning?",
    "The release was moved to Thursday because the certificate of the staging cluster had expired.",
    "def total(prices):\n    return sum(price * 1.19 for price in prices)\n",
    "Übermorgen fliegt Zoë nach Kraków; früher ging's nicht.",
    "会議は火曜日の午前十時からです。",
    "🎉 shipped!! (finally) — thanks @bob, see #ops-42 …",
    "unbelievablyantidisestablishmentarianismlike",
    "A ticket was opened, closed, and opened again. " * 20,
    "Each paragraph of this report repeats what the one before it said about the harbour. " * 40,
]

Matrix = NDArray[np.float64]


class Reference:
    """The encoder in numpy, one text at a time."""

    def __init__(self, weights: dict[str, Matrix]) -> None:
        self.weights = weights

    def embed(self, ids: list[int]) -> Matrix:
        hidden = self.norm(
            self.weights["embeddings.word_embeddings.weight"][ids]
            + self.weights["embeddings.position_embeddings.weight"][: len(ids)]
            + self.weights["embeddings.token_type_embeddings.weight"][0],
            "embeddings.LayerNorm",
        )
        for layer in range(6):
            hidden = self.layer(f"encoder.layer.{layer}", hidden)
        mean: Matrix = hidden.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def layer(self, name: str, hidden: Matrix) -> Matrix:
        attended = self.dense(self.attend(f"{name}.attention.self", hidden), f"{name}.attention.output.dense")
        hidden = self.norm(attended + hidden, f"{name}.attention.output.LayerNorm")
        expanded = self.dense(hidden, f"{name}.intermediate.dense")
        activated = expanded * 0.5 * (1 + np.vectorize(math.erf)(expanded / math.sqrt(2)))
        return self.norm(self.dense(activated, f"{name}.output.dense") + hidden, f"{name}.output.LayerNorm")

    def attend(self, name: str, hidden: Matrix) -> Matrix:
        heads = []
        for head in range(12):
            columns = slice(head * 32, head * 32 + 32)
            query, key, value = (
                self.dense(hidden, f"{name}.{part}")[:, columns] for part in ("query", "key", "value")
            )
            scores = query @ key.T / math.sqrt(32)
            likely = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(likely / likely.sum(axis=1, keepdims=True) @ value)
        return np.concatenate(heads, axis=1)

    def dense(self, inputs: Matrix, name: str) -> Matrix:
        return inputs @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, inputs: Matrix, name: str) -> Matrix:
        centred = inputs - inputs.mean(axis=1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
        normal: Matrix = centred / deviation
        return normal * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def make(directory: Path) -> list[dict[str, Any]]:
    """Work out every text's entry."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    published = load_file(directory / "model.safetensors")
    reference = Reference({name: tensor.astype(np.float64) for name, tensor in published.items()})
    entries = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        read = ids if len(ids) <= LONGEST else [*ids[: LONGEST - 1], ids[-1]]
        vector = reference.embed(read).astype("<f4").tobytes()
        entries.append({"text": text, "token_count": len(ids), "vector": base64.b64encode(vector).decode()})
    return entries


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(make(Path(sys.argv[1])), indent=1, ensure_ascii=False) + "\n")
