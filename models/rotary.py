"""Rotary positions (Su et al. 2021): angles from positions, and turning by them. Knows nothing of attention.

Shapes: B rows (1 when all rows have the same positions), T tokens, H features of a head, N heads.
There is no stored table: a buffer would follow `model.to(bfloat16)` and lose the angles, and would be garbage
after building on the meta device. The angles of one forward cost T x H/2 cosines, once for all layers.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Rotation(NamedTuple):
    """The cosine and sine of every angle, each (B, 1, T, H/2) float32."""

    cosine: Tensor
    sine: Tensor


def rotation_at(positions: Tensor, *, features_per_head: int, theta: float) -> Rotation:
    """The rotation of the tokens at `positions` (B, T) int64; feature pair i turns by position x theta^(-2i/H)."""
    exponents = torch.arange(0, features_per_head, 2, dtype=torch.float32, device=positions.device)
    frequencies = 1.0 / theta ** (exponents / features_per_head)
    angles = positions[:, None, :, None].float() * frequencies
    return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """x (B, N, T, H) turned, in float32; shape and dtype stay.

    Feature i is paired with feature i + H/2, as in transformers' Llama and Qwen3, not with its neighbour as in
    the paper.
    """
    first, second = x.float().chunk(2, dim=-1)
    cosine, sine = rotation
    turned = torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
    return turned.to(x.dtype)
