"""Matrix products in 8 bit integers: weights quantised once at export, activations at every run.

Weights are symmetric per output column, so a column with small weights keeps its resolution. They use 7 of
the 8 bits: processors with AVX2 but no VNNI add pairs of products in 16 bits, and full-range weights overflow
there. With 7 bits every processor gives the same numbers (ONNX Runtime calls this ``reduce_range``).

Activations are asymmetric over the whole tensor (``DynamicQuantizeLinear``: unsigned 8 bits with a zero
point).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from onnx import TensorProto

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memsidecar.embedding.graph_builder import GraphBuilder

LARGEST_WEIGHT: Final = 63
"""Quantised weights lie in -63 … 63: 2 x 255 x 63 still fits into 16 bits."""


def quantise_columns(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise ``[inputs, outputs]`` weights to integers and a scale per column (value = integer x scale)."""
    scales = np.abs(matrix).max(axis=0) / np.float32(LARGEST_WEIGHT)
    scales[scales == 0] = 1
    return np.rint(matrix / scales).astype(np.int8), scales.astype(np.float32)


def dynamic_int8_product(graph: GraphBuilder, inputs: str, matrix: NDArray[np.float32], name: str) -> str:
    """Add ``inputs @ matrix`` with both sides in 8 bits; gives the name of the float32 result.

    ONNX Runtime fuses these nodes into one when it loads the graph.
    """
    integers, scales = quantise_columns(matrix)
    quantised, scale, zero = graph.node_with_outputs(
        "DynamicQuantizeLinear", [inputs], [f"{name}_inputs", f"{name}_inputs_scale", f"{name}_inputs_zero"]
    )
    product = graph.node(
        "MatMulInteger", [quantised, graph.constant(f"{name}_weight", integers), zero], f"{name}_integers"
    )
    product = graph.node("Cast", [product], f"{name}_floats", to=TensorProto.FLOAT)
    scale = graph.node("Mul", [scale, graph.constant(f"{name}_weight_scale", scales)], f"{name}_scale")
    return graph.node("Mul", [product, scale], name)
