"""Which formats there are, in which dtypes each can be written, and how far its engine's scores may be from ours.

Loads nothing, so that a command line can list it.
"""

from collections.abc import Mapping

EXACT = {"max_difference": 1e-4, "mean_kl_nats": 1e-6}
"""Of float32 sums in another order. Measured: 5e-6 in transformers, 3e-6 in onnxruntime, 2e-5 in llama.cpp."""

TOLERANCES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "hf": {"bfloat16": EXACT, "float32": EXACT, "float16": EXACT},
    # llama.cpp rounds what a matrix is multiplied with to the matrix's type. Measured with the quickstart's model in
    # float16, bfloat16 and q8_0: 0.004, 0.03 and 0.14, and 2e-6, 1e-4 and 2e-3 nats.
    "gguf": {
        "q8_0": {"max_difference": 0.5, "mean_kl_nats": 2e-2},
        "float16": {"max_difference": 0.02, "mean_kl_nats": 1e-4},
        "bfloat16": {"max_difference": 0.15, "mean_kl_nats": 2e-3},
        "float32": EXACT,
    },
    # Whatever the weights are stored in, it is computed in float32.
    "onnx": {"float32": EXACT, "float16": EXACT, "bfloat16": EXACT},
    "torch-export": {"float32": EXACT},
    "torchscript": {"float32": EXACT},
}
"""Format, dtype of the weights (the default first), what `certificate.differences` calls it."""

GELU_TABLE = 2e-3
"""`max_difference` where llama.cpp computes GELU, which it looks up in a table of float16. Measured: 6e-4."""


def tolerance_of(format_name: str, dtype: str, architecture: str) -> dict[str, float]:
    """How far the scores of an export may be from ours."""
    tolerance = dict(TOLERANCES[format_name][dtype])
    if format_name == "gguf" and architecture == "gpt2":
        tolerance["max_difference"] = max(tolerance["max_difference"], GELU_TABLE)
    return tolerance
