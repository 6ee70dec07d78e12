import math

import pytest
import torch

from models.rotary import rotate, rotation_at


@pytest.mark.parametrize("theta", [100.0, 10_000.0, 5e5])
def test_rotation_turns_each_pair_by_position_times_frequency(theta: float) -> None:
    H, positions = 8, [0, 1, 5, 1000]
    x = torch.randn(1, 2, len(positions), H, generator=torch.Generator().manual_seed(1))
    turned = rotate(x, rotation_at(torch.tensor([positions]), features_per_head=H, theta=theta))
    for t, position in enumerate(positions):
        for pair in range(H // 2):
            angle = position * theta ** (-2 * pair / H)
            for head in range(2):
                number = complex(x[0, head, t, pair], x[0, head, t, pair + H // 2])
                expected = number * complex(math.cos(angle), math.sin(angle))
                got = complex(turned[0, head, t, pair], turned[0, head, t, pair + H // 2])
                # At position 1000 a float32 angle is exact to 6e-5.
                assert abs(got - expected) < (1e-4 if position == 1000 else 1e-6) * (1 + abs(number))


def test_products_of_rotated_vectors_depend_on_the_distance_only() -> None:
    query, key = torch.randn(2, 1, 1, 1, 64, generator=torch.Generator().manual_seed(2)).unbind()

    def product(at: int, other: int) -> float:
        first, second = (
            rotate(x, rotation_at(torch.tensor([[p]]), features_per_head=64, theta=10_000.0))
            for x, p in ((query, at), (key, other))
        )
        return (first * second).sum().item()

    assert product(7, 3) == pytest.approx(product(104, 100), abs=1e-4)
    assert product(7, 3) != pytest.approx(product(7, 4), abs=1e-2)


def test_rotation_is_float32_also_where_everything_else_is_bfloat16() -> None:
    positions = torch.tensor([[1000, 1001]])
    expected = rotation_at(positions, features_per_head=8, theta=10_000.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = rotation_at(positions, features_per_head=8, theta=10_000.0)
        x = torch.randn(1, 1, 2, 8, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
        turned = rotate(x, got)
    assert got.cosine.dtype == torch.float32
    assert torch.equal(got.cosine, expected.cosine) and torch.equal(got.sine, expected.sine)
    # In bfloat16, 1000 and 1001 would be the same position.
    assert not torch.equal(got.sine[..., 0, :], got.sine[..., 1, :])
    assert torch.equal(turned, rotate(x.float(), expected).to(torch.bfloat16))
