"""8 bit weights that no processor can overflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from memsidecar.embedding.model_files import Precision, open_installed
from memsidecar.embedding.quantization import quantise_columns, read_activation_ranges

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_ACTIVATION = 255


@pytest.fixture(scope="module")
def weights(model_directory: Path) -> dict[str, np.ndarray]:
    """The weights of every 8 bit product of the installed graph."""
    model = open_installed(model_directory, Precision.INT8)
    graph = onnx.load(model.graph, load_external_data=False).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    return {
        node.output[0]: numpy_helper.to_array(constants[node.input[1]])
        for node in graph.node
        if node.op_type == "MatMulIntegerToFloat"
    }


def test_every_product_of_the_encoder_is_in_8_bits_on_a_measured_range(
    weights: dict[str, np.ndarray],
) -> None:
    assert weights.keys() == read_activation_ranges().keys()
    assert len(weights) == 24


def test_products_of_neighbouring_weights_fit_into_16_bits(weights: dict[str, np.ndarray]) -> None:
    for integers in weights.values():
        neighbours = integers.astype(int).reshape(-1, 2, integers.shape[1])
        for sign in (1, -1):
            sums = np.maximum(sign * neighbours, 0).sum(axis=1)
            assert sums.max() * LARGEST_ACTIVATION < 2**15
            assert sums.max() >= 120


def test_quantised_columns_are_within_half_a_step_of_the_weights() -> None:
    matrix = np.random.default_rng(3).normal(size=(384, 96)).astype(np.float32)
    integers, scales = quantise_columns(matrix)
    assert np.abs(integers * scales - matrix).max(axis=0) == pytest.approx(scales / 2, rel=0.05)


def test_zero_is_a_step_of_every_range() -> None:
    for activation in read_activation_ranges().values():
        assert 0 <= activation.zero <= LARGEST_ACTIVATION
        assert activation.lowest < 0 < activation.highest
        assert all(divisor >= 1 for divisor in activation.divisors.values())
