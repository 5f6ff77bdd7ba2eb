"""Builds the model's ONNX graph from the published weights, without PyTorch.

Inputs ``input_ids`` and ``attention_mask`` are int64 ``[batch, sequence]``; the mask holds 1 for a word piece
and 0 for padding, padding to the right. Output ``sentence_embedding`` is float32 ``[batch, 384]``: the mean
of the last hidden states over the mask, at unit L2 length.

Padding costs next to nothing: the first nodes take the real word pieces out of the batch, and everything but
attention runs on those ``[tokens, hidden]`` rows. Only attention, under a tenth of the work at these lengths,
sees the padded shape. So texts of unequal lengths share one run at the price of equal ones.

Architecture and epsilon: BERT as configured in the published ``config.json`` (6 layers, hidden 384, 12 heads,
erf GELU, layer norm epsilon 1e-12). Fused operators are those of ONNX Runtime's ``com.microsoft`` domain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from onnx import ModelProto, TensorProto, helper

from memsidecar.domain.embedding import DIMENSIONS, MAX_WORD_PIECES
from memsidecar.embedding.graph_builder import GraphBuilder
from memsidecar.embedding.model_files import MODEL_NAME, WORD_EMBEDDINGS, Precision, graph_file
from memsidecar.embedding.quantization import int8_product, read_activation_ranges

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

LAYERS: Final = 6
HEADS: Final = 12
LAYER_NORM_EPSILON: Final = 1e-12

_PROJECTIONS: Final = ("attention.self.query", "attention.self.key", "attention.self.value")

_FUSED: Final = "com.microsoft"
_ONNX_OPSET: Final = 18
_IR_VERSION: Final = 9


class Weights:
    """Published tensors under the names this module uses."""

    def __init__(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        self._tensors = tensors

    def embedding(self, table: str) -> NDArray[np.float32]:
        """One of the embedding tables, ``[entries, 384]``."""
        return self._tensors[f"embeddings.{table}_embeddings.weight"]

    def vector(self, name: str) -> NDArray[np.float32]:
        """A bias, or a layer norm's scale or shift."""
        return self._tensors[name]

    def matrix(self, layer: int, *names: str) -> NDArray[np.float32]:
        """Dense weights of a layer, side by side, as ``[inputs, outputs]`` (published transposed)."""
        return np.concatenate(
            [self._tensors[f"encoder.layer.{layer}.{name}.weight"].T for name in names], axis=1
        )

    def bias(self, layer: int, *names: str) -> NDArray[np.float32]:
        """Biases of a layer, end to end."""
        return np.concatenate([self._tensors[f"encoder.layer.{layer}.{name}.bias"] for name in names])


def build_graph(tensors: Mapping[str, NDArray[np.float32]], precision: Precision) -> ModelProto:
    """Make the whole graph; it reads the word embeddings from ``words.bin`` beside it.

    Args:
        tensors: The content of ``model.safetensors``.
        precision: ``FP32``, or ``INT8`` for 8 bit matrix products; everything else stays in float32.
    """
    graph, weights = GraphBuilder(), Weights(tensors)
    unpadding = _Unpadding(graph)
    hidden = _embed(graph, weights, unpadding)
    encoder = _Encoder(graph, weights, unpadding, precision)
    for layer in range(LAYERS):
        hidden = encoder.encode(layer, hidden)
    _pool(graph, unpadding, hidden)
    batch_shape = ["batch", "sequence"]
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            MODEL_NAME,
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, batch_shape)
                for name in ("input_ids", "attention_mask")
            ],
            [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", DIMENSIONS])],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", _ONNX_OPSET), helper.make_opsetid(_FUSED, 1)],
        ir_version=_IR_VERSION,
        producer_name="memsidecar",
    )


def write_graphs(tensors: Mapping[str, NDArray[np.float32]], directory: Path) -> None:
    """Write the graph of every precision into a directory, and the word embeddings that they share."""
    for precision in Precision:
        content = build_graph(tensors, precision).SerializeToString(deterministic=True)
        (directory / graph_file(precision)).write_bytes(content)
    (directory / WORD_EMBEDDINGS).write_bytes(
        Weights(tensors).embedding("word").astype("<f4", copy=False).tobytes()
    )


class _Unpadding:
    """Moves rows between the padded batch ``[batch, sequence, …]`` and the word pieces ``[tokens, …]``."""

    def __init__(self, graph: GraphBuilder) -> None:
        self._graph = graph
        self.batch_shape = graph.node("Shape", ["input_ids"], "batch_shape")
        mask = graph.node("Reshape", ["attention_mask", graph.integers(-1)], "mask_rows")
        self.sequence = graph.node(
            "Gather", [self.batch_shape, graph.constant("one", np.array(1))], "sequence"
        )
        found = graph.node("NonZero", [mask], "token_rows_2d")
        self.token_rows = graph.node("Squeeze", [found, graph.integers(0)], "token_rows")
        # Padding rows point at the token before them: any row will do, since attention masks them as keys and
        # nothing reads what they give as queries.
        counted = graph.node("CumSum", [mask, graph.constant("zero", np.array(0))], "counted")
        before = graph.node("Sub", [counted, "one"], "counted_from_zero")
        source = graph.node("Max", [before, "zero"], "source_rows_flat")
        self.source_rows = graph.node("Reshape", [source, self.batch_shape], "source_rows")

    def ids(self) -> str:
        rows = self._graph.node("Reshape", ["input_ids", self._graph.integers(-1)], "id_rows")
        return self._graph.node("Gather", [rows, self.token_rows], "ids", axis=0)

    def positions(self) -> str:
        return self._graph.node("Mod", [self.token_rows, self.sequence], "positions")

    def pad(self, tokens: str, name: str) -> str:
        return self._graph.node("Gather", [tokens, self.source_rows], name, axis=0)

    def unpad(self, padded: str, name: str) -> str:
        rows = self._graph.node("Reshape", [padded, self._graph.integers(-1, DIMENSIONS)], f"{name}_rows")
        return self._graph.node("Gather", [rows, self.token_rows], name, axis=0)


def _embed(graph: GraphBuilder, weights: Weights, unpadding: _Unpadding) -> str:
    words = graph.external_constant("word_embeddings", weights.embedding("word"), WORD_EMBEDDINGS)
    # Every text is of segment 0, so its segment vector is part of each position's.
    positions = graph.constant(
        "position_embeddings",
        (weights.embedding("position") + weights.embedding("token_type")[0])[:MAX_WORD_PIECES],
    )
    embedded_words = graph.node("Gather", [words, unpadding.ids()], "embedded_words", axis=0)
    embedded_positions = graph.node(
        "Gather", [positions, unpadding.positions()], "embedded_positions", axis=0
    )
    summed = graph.node("Add", [embedded_words, embedded_positions], "embedded")
    return _normalise(graph, weights, summed, "embeddings.LayerNorm")


def _normalise(graph: GraphBuilder, weights: Weights, inputs: str, norm: str) -> str:
    # Not the fused SkipLayerNormalization, whose loop is scalar: it takes six times as long as this and the Add.
    parameters = [
        graph.constant(f"{norm}.{part}", weights.vector(f"{norm}.{part}")) for part in ("weight", "bias")
    ]
    return graph.node(
        "LayerNormalization", [inputs, *parameters], f"{norm}.normalised", axis=-1, epsilon=LAYER_NORM_EPSILON
    )


class _Encoder:
    """The transformer's layers, on ``[tokens, 384]`` rows."""

    def __init__(
        self, graph: GraphBuilder, weights: Weights, unpadding: _Unpadding, precision: Precision
    ) -> None:
        self._graph = graph
        self._weights = weights
        self._unpadding = unpadding
        self._precision = precision
        self._ranges = read_activation_ranges() if precision is Precision.INT8 else {}
        self._mask = graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)

    def encode(self, layer: int, hidden: str) -> str:
        attended = self._attend(layer, hidden)
        hidden = self._add_and_normalise(layer, attended, hidden, "attention.output")
        expanded = self._graph.node(
            "Gelu",
            [self._dense(layer, hidden, "intermediate.dense")],
            f"layer{layer}.activated",
            domain=_FUSED,
        )
        return self._add_and_normalise(layer, expanded, hidden, "output")

    def _attend(self, layer: int, hidden: str) -> str:
        graph, name = self._graph, f"layer{layer}.attention"
        projections = self._unpadding.pad(
            self._dense(layer, hidden, *_PROJECTIONS), f"{name}.projections_padded"
        )
        parts = [f"{name}.{part}" for part in ("queries", "keys", "values")]
        graph.node_with_outputs("Split", [projections], parts, axis=-1, num_outputs=len(parts))
        attended = graph.node(
            "MultiHeadAttention",
            [*parts, "", self._mask],
            f"{name}.attended_padded",
            domain=_FUSED,
            num_heads=HEADS,
        )
        return self._unpadding.unpad(attended, f"{name}.attended")

    def _add_and_normalise(self, layer: int, inputs: str, residual: str, block: str) -> str:
        produced = self._dense(layer, inputs, f"{block}.dense")
        summed = self._graph.node("Add", [produced, residual], f"layer{layer}.{block}.summed")
        return _normalise(self._graph, self._weights, summed, f"encoder.layer.{layer}.{block}.LayerNorm")

    def _dense(self, layer: int, inputs: str, *tensors: str) -> str:
        name, matrix = f"layer{layer}.{tensors[0]}", self._weights.matrix(layer, *tensors)
        bias = self._graph.constant(f"{name}.bias", self._weights.bias(layer, *tensors))
        if self._precision is Precision.INT8:
            return int8_product(self._graph, inputs, matrix, bias, self._ranges[name])
        return self._graph.node("Gemm", [inputs, self._graph.constant(f"{name}.weight", matrix), bias], name)


def _pool(graph: GraphBuilder, unpadding: _Unpadding, hidden: str) -> None:
    # The sum over the mask has the direction of the mean; the L2 norm takes the length away.
    mask = graph.node("Cast", ["attention_mask"], "mask_weights", to=TensorProto.FLOAT)
    mask = graph.node("Unsqueeze", [mask, graph.integers(1)], "mask_weights_3d")
    summed = graph.node("MatMul", [mask, unpadding.pad(hidden, "hidden_padded")], "summed_3d")
    summed = graph.node("Squeeze", [summed, graph.integers(1)], "summed")
    length = graph.node("ReduceL2", [summed, graph.integers(1)], "length", keepdims=1)
    graph.node("Div", [summed, length], "sentence_embedding")
