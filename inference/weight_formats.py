"""The names of the formats in which weights can be laid out, and what each means. Loads no tensor library."""

from typing import Literal, get_args

WeightFormat = Literal["float32", "bfloat16", "float16", "int8"]
"""float32: exact. bfloat16: weights, activations and cache have 8 bits. float16: weights have 11 bits, all else is
float32. int8: weights have 8 bits with a scale a row, activations 8 bits with a scale a token, all else is float32."""

WEIGHT_FORMATS: tuple[WeightFormat, ...] = get_args(WeightFormat)
