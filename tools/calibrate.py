r"""Measures what goes into the model's matrix products, for ``memsidecar.embedding.quantization``.

    python -m tools.calibrate DIRECTORY

DIRECTORY holds the published model.safetensors and tokenizer.json. Every line of ``calibration_texts.txt`` (``\n`` in
a line stands for a line break) runs through the float32 graph; the result is written to ``activations.json``. Texts of
many kinds matter more than many texts: what decides the ranges is the model's own outlying channels.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from safetensors.numpy import load_file

from memsidecar.embedding.model_files import TOKENIZER, WEIGHTS, Precision
from memsidecar.embedding.model_sources import check_source_file
from memsidecar.embedding.onnx_export import build_graph, write_graphs
from memsidecar.embedding.quantization import ACTIVATIONS
from memsidecar.embedding.tokenization import WordPieceTokenizer

TEXTS = Path(__file__).with_name("calibration_texts.txt")

OUTLYING = 2.0
"""A channel whose largest value is beyond so many medians of its tensor's channels is divided down to that."""


def measure(directory: Path) -> dict[str, Any]:
    """Give each product's range and divisors."""
    for file in (WEIGHTS, TOKENIZER):
        check_source_file(directory / file.name, file)
    tensors = load_file(directory / WEIGHTS.name)
    model = build_graph(tensors, Precision.FP32)
    products = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Gemm" and node.output[0].startswith("layer")
    }
    watched = sorted(set(products.values()))
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in watched
    )
    with tempfile.TemporaryDirectory() as folder:
        write_graphs(tensors, Path(folder))
        watching = Path(folder) / "watching.onnx"
        watching.write_bytes(model.SerializeToString())
        session = onnxruntime.InferenceSession(watching, providers=["CPUExecutionProvider"])
    tokenizer = WordPieceTokenizer(directory / TOKENIZER.name)
    seen: dict[str, list[np.ndarray]] = {name: [] for name in watched}
    for line in TEXTS.read_text(encoding="utf-8").splitlines():
        ids = np.array([tokenizer.encode(line.replace("\\n", "\n")).ids])
        values = session.run(watched, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        for name, value in zip(watched, values, strict=True):
            seen[name].append(value)
    return {product: _describe(product, np.concatenate(seen[inputs])) for product, inputs in products.items()}


def _describe(product: str, values: np.ndarray) -> dict[str, Any]:
    largest = np.abs(values).max(axis=0)
    limit = OUTLYING * np.median(largest)
    # Attention outputs have no outlying channels, and dividing would cost an operator.
    outlying = [] if ".attention.output." in product else np.flatnonzero(largest > limit).tolist()
    divisors = {channel: float(f"{largest[channel] / limit:.3g}") for channel in outlying}
    scaled = values.copy()
    for channel, divisor in divisors.items():
        scaled[:, channel] /= divisor
    return {
        "lowest": float(f"{scaled.min():.4g}"),
        "highest": float(f"{scaled.max():.4g}"),
        "divisors": {str(channel): divisor for channel, divisor in divisors.items()},
    }


if __name__ == "__main__":
    products = measure(Path(sys.argv[1]))
    lines = (f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in products.items())
    ACTIVATIONS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
