"""A decoder with a KV cache as an ONNX model; inputs and outputs have the names that Optimum and transformers.js use.

Shapes: B rows, T new tokens, S tokens in the cache, N query heads, K key/value heads, H features of a head, V tokens.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.training_config import ModelConfig
from inference.chat import ChatModel
from inference.export.hf import write_surroundings
from inference.export.onnx_graph import MODEL_NAME, Graph
from models.hf_settings import (
    foreign_parts,
)

EXTERNAL_FROM_BYTES = 1 << 30
"""Larger weights lie in a file of their own: a protobuf message ends at 2 GB."""

FLOAT, BOOL = 1, 9
"""Types as ONNX numbers them (`onnx.TensorProto`)."""

HIDDEN = float(np.finfo(np.float32).min)
"""Added to the score of a token that is not seen."""


def write_onnx(source: ChatModel, directory: Path, *, dtype: str) -> None:
    """Write `model.onnx`, the configuration and the tokenizer's files into `directory`.

    The weights are stored in `dtype`; everything is computed in float32, because onnxruntime's CPU has few products of
    another dtype.

    Inputs: `input_ids` (B, T), `attention_mask` (B, S + T), `position_ids` (B, T), all int64, and for each layer
    `past_key_values.N.key` and `.value` (B, K, S, H) float32, where S may be 0. Outputs: `logits` (B, T, V) float32 and
    `present.N.key` and `.value` (B, K, S + T, H).
    """
    import onnx

    write_surroundings(source, directory, dtype=dtype)
    model = source.engine.model
    weights = {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}
    onnx.save_model(
        onnx_model(model.config, weights, dtype=dtype),
        directory / MODEL_NAME,
        save_as_external_data=sum(values.nbytes for values in weights.values()) >= EXTERNAL_FROM_BYTES,
        location=f"{MODEL_NAME}.data",
    )


def objections_to_onnx(source: ChatModel) -> list[str]:
    """Why the model cannot be written; empty if it can."""
    config = source.engine.model.config
    return [f"{part} has no ONNX form here" for part in foreign_parts(config)]


def onnx_model(config: ModelConfig, weights: Mapping[str, NDArray[np.float32]], *, dtype: str) -> Any:
    """The model of a shape, with the weights under our names, stored in `dtype`."""
    import onnx

    value = onnx.helper.make_tensor_value_info
    whole, real = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    inputs = [
        value("input_ids", whole, ["batch", "length"]),
        value("attention_mask", whole, ["batch", "past + length"]),
        value("position_ids", whole, ["batch", "length"]),
    ]
    outputs = [value("logits", real, ["batch", "length", weights["embedding.weight"].shape[0]])]
    K, H = config.kv_heads, config.features_per_head
    for layer in range(config.num_layers):
        for part in ("key", "value"):
            inputs.append(value(f"past_key_values.{layer}.{part}", real, ["batch", K, "past", H]))
            outputs.append(value(f"present.{layer}.{part}", real, ["batch", K, "past + length", H]))
    return _Decoder(config, weights, dtype=dtype).model(inputs=inputs, outputs=outputs)


class _Decoder(Graph):
    """The decoder's computation, in the order in which `models.transformer_lm` has it."""

    def __init__(
        self, config: ModelConfig, weights: Mapping[str, NDArray[np.float32]], *, dtype: str
    ) -> None:
        super().__init__()
        self._config = config
        self._weights = weights
        self._dtype = dtype
        self._parameters: dict[str, str] = {}
        self._add_decoder()

    def _parameter(self, name: str, *, transposed: bool = False) -> str:
        """A weight of the model in float32; onnxruntime converts it once, when it loads the file."""
        if name not in self._parameters:
            values = self._weights[name].T if transposed else self._weights[name]
            stored = self.weight(name, values, dtype=self._dtype)
            is_float32 = self._dtype == "float32"
            self._parameters[name] = stored if is_float32 else self.add("Cast", stored, to=FLOAT)
        return self._parameters[name]

    def _add_decoder(self) -> None:
        embedding = self._parameter("embedding.weight")
        x = self.add("Gather", embedding, "input_ids")
        rotation = None
        if self._config.use_rope_embeddings:
            rotation = self._rotation()
        else:
            table = self._parameter("position_embedding.weight")
            x = self.add("Add", x, self.add("Gather", table, "position_ids"))
        mask = self._mask()
        for layer in range(self._config.num_layers):
            block = f"blocks.{layer}"
            attended = self._attention(self._norm(x, f"{block}.attention_norm"), layer, rotation, mask)
            x = self.add("Add", x, attended)
            x = self.add("Add", x, self._feed_forward(self._norm(x, f"{block}.feed_forward_norm"), block))
        x = self._norm(x, "final_norm")
        rows = self._parameter("embedding.weight" if self._config.tie_word_embeddings else "head.weight")
        self.add("MatMul", x, self.add("Transpose", rows, perm=[1, 0]), name="logits")

    def _linear(self, x: str, name: str) -> str:
        y = self.add("MatMul", x, self._parameter(f"{name}.weight", transposed=True))
        if f"{name}.bias" in self._weights:
            y = self.add("Add", y, self._parameter(f"{name}.bias"))
        return y

    def _norm(self, x: str, name: str, *, is_rms: bool | None = None) -> str:
        scale = self._parameter(f"{name}.weight")
        if not (self._config.use_rms_norm if is_rms is None else is_rms):
            bias = self._parameter(f"{name}.bias")
            return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=self._config.norm_epsilon)
        square = self.add("ReduceMean", self.add("Mul", x, x), self.constant(-1))
        root = self.add("Sqrt", self.add("Add", square, self.constant(self._config.norm_epsilon)))
        return self.add("Mul", self.add("Div", x, root), scale)

    def _rotation(self) -> tuple[str, str]:
        """Cosine and sine of every angle, (B, 1, T, H/2)."""
        features = self._config.features_per_head
        exponents = np.arange(0, features, 2, dtype=np.float32) / features
        frequencies = 1.0 / np.float32(self._config.rope_theta) ** exponents
        positions = self.add("Cast", "position_ids", to=FLOAT)
        column = self.add("Unsqueeze", positions, self.constant(1, 3))
        angles = self.add("Mul", column, self.weight("frequencies", frequencies.astype(np.float32)))
        return self.add("Cos", angles), self.add("Sin", angles)

    def _rotate(self, x: str, rotation: tuple[str, str]) -> str:
        cosine, sine = rotation
        number = len(self.nodes)
        first, second = self.add_many(
            "Split", x, names=[f"first_{number}", f"second_{number}"], axis=-1, num_outputs=2
        )
        turned = (
            self.add("Sub", self.add("Mul", first, cosine), self.add("Mul", second, sine)),
            self.add("Add", self.add("Mul", second, cosine), self.add("Mul", first, sine)),
        )
        return self.add("Concat", *turned, axis=-1)

    def _mask(self) -> str:
        """(B, 1, T, S + T): 0 for what is seen, `HIDDEN` for the rest. Padding sees itself, for the softmax's sake."""
        zero, one = self.constant(0, scalar=True), self.constant(1, scalar=True)
        total = self.add("Gather", self.add("Shape", "attention_mask"), one)
        new = self.add("Gather", self.add("Shape", "input_ids"), one)
        seen = self.add("Range", zero, total, one)
        seeing = self.add("Range", self.add("Sub", total, new), total, one)
        seeing = self.add("Unsqueeze", seeing, self.constant(1))
        real = self.add("Unsqueeze", self.add("Cast", "attention_mask", to=BOOL), self.constant(1, 2))
        visible = self.add("And", self.add("LessOrEqual", seen, seeing), real)
        visible = self.add("Or", visible, self.add("Equal", seen, seeing))
        return self.add("Where", visible, self.constant(0.0), self.constant(HIDDEN))

    def _attention(self, x: str, layer: int, rotation: tuple[str, str] | None, mask: str) -> str:
        config, name = self._config, f"blocks.{layer}.attention"
        N, K, H = config.num_attention_heads, config.kv_heads, config.features_per_head

        def heads(part: str, number: int) -> str:
            y = self.add("Reshape", self._linear(x, f"{name}.{part}"), self.constant(0, 0, number, H))
            if config.use_qk_norm and part != "value":
                y = self._norm(y, f"{name}.{part}_norm", is_rms=True)
            y = self.add("Transpose", y, perm=[0, 2, 1, 3])
            return y if rotation is None or part == "value" else self._rotate(y, rotation)

        query, key, value = heads("query", N), heads("key", K), heads("value", K)
        key, value = (
            self.add("Concat", f"past_key_values.{layer}.{part}", new, axis=2, name=f"present.{layer}.{part}")
            for part, new in (("key", key), ("value", value))
        )
        # The queries of one key together: (B, K, N / K x T, H).
        query = self.add("Mul", query, self.constant(float(H**-0.5)))
        query = self.add("Reshape", query, self.constant(0, K, -1, H))
        scores = self.add("MatMul", query, self.add("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self.add("Reshape", scores, self.constant(0, N, -1, 0))
        weights = self.add("Softmax", self.add("Add", scores, mask), axis=-1)
        weights = self.add("Reshape", weights, self.constant(0, K, -1, 0))
        attended = self.add("Reshape", self.add("MatMul", weights, value), self.constant(0, N, -1, H))
        attended = self.add("Transpose", attended, perm=[0, 2, 1, 3])
        return self._linear(self.add("Reshape", attended, self.constant(0, 0, -1)), f"{name}.output")

    def _feed_forward(self, x: str, block: str) -> str:
        up = self._linear(x, f"{block}.feed_forward.up")
        if self._config.use_swiglu:
            gate = self._linear(x, f"{block}.feed_forward.gate")
            inner = self.add("Mul", self.add("Mul", gate, self.add("Sigmoid", gate)), up)
        else:
            inner = self._activation(up)
        return self._linear(inner, f"{block}.feed_forward.down")

    def _activation(self, x: str) -> str:
        if self._config.activation.startswith("gelu"):
            return self.add(
                "Gelu", x, approximate="tanh" if self._config.activation == "gelu_tanh" else "none"
            )
        y = self.add("Relu", x)
        return self.add("Mul", y, y) if self._config.activation == "relu_squared" else y
