"""Collects the nodes and constants of an ONNX graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import NodeProto


class GraphBuilder:
    """Nodes and constants of a graph under construction; every value is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a constant once; the same name is the same constant."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def external_constant(self, name: str, value: NDArray[np.generic], file: str) -> str:
        """Add a constant that is the whole content of a file beside the graph's.

        ONNX Runtime maps such a file into memory, so that processes share it and untouched pages cost nothing.
        """
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
            dims=value.shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, entry in (("location", file), ("offset", "0"), ("length", str(value.nbytes))):
            tensor.external_data.add(key=key, value=entry)
        self.constants[name] = tensor
        return name

    def integers(self, *values: int) -> str:
        """Add a one-dimensional int64 constant named after its values."""
        return self.constant("integers_" + "_".join(map(str, values)), np.array(values, np.int64))

    def node(
        self, operator: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Any
    ) -> str:
        """Add a node with one output and give that output's name."""
        return self.node_with_outputs(operator, inputs, [output], domain=domain, **attributes)[0]

    def node_with_outputs(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: list[str],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Add a node with several outputs and give their names."""
        self.nodes.append(
            helper.make_node(
                operator, inputs, outputs, name=f"{outputs[0]}/{operator}", domain=domain, **attributes
            )
        )
        return outputs
