"""An ONNX graph under construction: nodes, constants and weights, with names that say what they are.

Knows the format, no model. Written node by node and not by torch's exporters: those need another package, differ from
one version of torch to the next, and choose the names themselves.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

MODEL_NAME = "model.onnx"

OPSET = 20
"""The first that has GELU (onnx/docs/Operators.md)."""

IR_VERSION = 9
"""Of the file format; opset 20 asks for it, and onnxruntime from 1.17 on reads it."""


class Graph:
    """Collects what a graph is made of. Values are known by their names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node with one result, and the name of that."""
        return self.add_many(
            operator, *inputs, names=[name or f"{operator}_{len(self.nodes)}"], **attributes
        )[0]

    def add_many(self, operator: str, *inputs: str, names: Sequence[str], **attributes: Any) -> list[str]:
        """A node with several results, and their names."""
        import onnx

        self.nodes.append(onnx.helper.make_node(operator, inputs, names, name=names[0], **attributes))
        return list(names)

    def weight(self, name: str, values: NDArray[Any], *, dtype: str | None = None) -> str:
        """Values that the file holds, rounded to `dtype` if it is named; those of a name are stored once."""
        import onnx

        if name not in self.initializers:
            if dtype is not None:
                code = onnx.TensorProto.DataType.Value(dtype.upper() if dtype != "float32" else "FLOAT")
                values = values.astype(onnx.helper.tensor_dtype_to_np_dtype(code))
            self.initializers[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def constant(self, *values: int | float, scalar: bool = False) -> str:
        """A vector (or a single number) of whole numbers, or of float32."""
        kind = np.int64 if all(isinstance(value, int) for value in values) else np.float32
        name = f"{'scalar' if scalar else 'vector'}_{'_'.join(map(str, values))}"
        return self.weight(name, np.array(values[0] if scalar else values, dtype=kind))

    def model(
        self, *, inputs: Sequence["onnx.ValueInfoProto"], outputs: Sequence["onnx.ValueInfoProto"]
    ) -> "onnx.ModelProto":
        """The finished model."""
        import onnx

        graph = onnx.helper.make_graph(
            self.nodes, "decoder", inputs, outputs, initializer=list(self.initializers.values())
        )
        return onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="bloomery",
        )
