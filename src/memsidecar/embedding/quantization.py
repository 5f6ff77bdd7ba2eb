"""Matrix products in 8 bit integers, on scales fixed at export.

Weights are symmetric per output column, so a column of small weights keeps its resolution. Processors with AVX2 but no
VNNI add the products of two neighbouring rows in 16 bits, which full-range weights could overflow. So a column's scale
is chosen by its largest sum of such neighbours: no sum can overflow, every processor gives the same numbers, and most
columns still use nearly the whole byte (the usual remedy, 7 bit weights, costs half the resolution).

What goes into a product is quantised on a fixed range, measured once over texts of many kinds (``activations.json``,
written by ``tools/calibrate.py``), not on the range found in each run. So a text's vector does not depend on the texts
it happens to share a run with, and no run searches for its extremes.

A few channels of this model are many times larger than all others, whatever the text. Left alone they would stretch
the range until ordinary channels had only a handful of steps. They are divided down before they are quantised, and
their rows of the weights multiplied up: the product is the same (the idea of SmoothQuant, Xiao et al. 2023, applied
to outlying channels only).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from memsidecar.embedding.graph_builder import GraphBuilder

ACTIVATIONS: Final = Path(__file__).with_name("activations.json")

LARGEST_NEIGHBOURS: Final = 127
"""Two neighbouring quantised weights of one sign add up to this at most, give or take the rounding of one: even 128,
times the largest activation of 255, is below 2**15."""

HEADROOM: Final = 1.2
"""Ranges are wider than the calibration texts needed by this factor; values beyond are clipped."""


@dataclass(frozen=True, slots=True)
class ActivationRange:
    """What goes into one product, after outlying channels were divided down."""

    name: str
    """The product's name in the graph."""
    lowest: float
    highest: float
    divisors: Mapping[int, float]
    """Channels to divide before quantising, and by how much."""

    @property
    def step(self) -> np.float32:
        """Width of one of the 255 steps of an unsigned byte."""
        return np.float32(HEADROOM * (self.highest - self.lowest) / 255)

    @property
    def zero(self) -> np.uint8:
        """The byte that stands for 0."""
        return np.uint8(np.rint(-HEADROOM * self.lowest / self.step))

    def channel_factors(self, channels: int) -> NDArray[np.float32]:
        """Give the divisor of every channel, 1 for most."""
        factors = np.ones(channels, np.float32)
        for channel, divisor in self.divisors.items():
            factors[channel] = divisor
        return factors


def read_activation_ranges() -> dict[str, ActivationRange]:
    """Read the measured range of every product, by the product's name."""
    return {
        product: ActivationRange(
            name=product,
            lowest=entry["lowest"],
            highest=entry["highest"],
            divisors={int(channel): divisor for channel, divisor in entry["divisors"].items()},
        )
        for product, entry in json.loads(ACTIVATIONS.read_text()).items()
    }


def quantise_columns(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise ``[inputs, outputs]`` weights to integers and a scale per column (value = integer x scale)."""
    neighbours = matrix.reshape(-1, 2, matrix.shape[1])
    sums = [np.maximum(sign * neighbours, 0).sum(axis=1).max(axis=0) for sign in (1, -1)]
    scales = (np.maximum(*sums) / LARGEST_NEIGHBOURS).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales


def int8_product(
    graph: GraphBuilder, inputs: str, matrix: NDArray[np.float32], bias: str, product: ActivationRange
) -> str:
    """Add ``inputs @ matrix + bias`` with the product in 8 bits; gives the name of the float32 result."""
    name = product.name
    if product.divisors:
        factors = product.channel_factors(len(matrix))
        inputs = graph.node(
            "Mul", [inputs, graph.constant(f"{name}.inverse", 1 / factors)], f"{name}.divided"
        )
        matrix = matrix * factors[:, np.newaxis]
    integers, scales = quantise_columns(matrix)
    step = graph.constant(f"{name}.step", np.array(product.step))
    zero = graph.constant(f"{name}.zero", np.array(product.zero))
    quantised = graph.node("QuantizeLinear", [inputs, step, zero], f"{name}.quantised")
    return graph.node(
        "MatMulIntegerToFloat",
        [
            quantised,
            graph.constant(f"{name}.weight", integers),
            step,
            graph.constant(f"{name}.weight_scale", scales),
            zero,
            "",
            bias,
        ],
        name,
        domain="com.microsoft",
    )
