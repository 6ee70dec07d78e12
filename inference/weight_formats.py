"""The names of the formats in which weights can be laid out, and what each means. Loads no tensor library."""

from typing import Literal, get_args

WeightFormat = Literal["float32", "bfloat16", "float16", "int8"]
"""float32: exact. bfloat16: weights and what they are multiplied with have 8 bits, and so has attention of 64 tokens
or more at once. float16: weights have 11 bits. int8: weights have 8 bits with a scale a row, activations 8 bits with a
scale a token. All else is float32, keys and values included."""

WEIGHT_FORMATS: tuple[WeightFormat, ...] = get_args(WeightFormat)
