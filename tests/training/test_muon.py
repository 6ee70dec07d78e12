import math

import pytest
import torch

from training.muon import POLAR_EXPRESS, Muon, orthogonalize


def random_matrices(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(32, 32), (16, 48), (48, 16), (1, 8)])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_come_near_one_and_singular_vectors_stay(
    shape: tuple[int, int], scale: float, dtype: torch.dtype
) -> None:
    matrices = random_matrices(3, *shape, scale=scale)
    found = orthogonalize(matrices, compute_dtype=dtype).float()
    left, values, right = torch.linalg.svd(matrices.double(), full_matrices=False)
    # In the basis of the singular vectors the result is diagonal; what was far below the largest value still rises.
    inside = left.mT @ found.double() @ right.mT
    diagonal = inside.diagonal(dim1=-2, dim2=-1)
    large = values > 0.02 * values[:, :1]
    assert diagonal[large].min() > 0.8
    assert diagonal.max() < 1.2
    off = inside - torch.diag_embed(diagonal)
    assert off.abs().max() < (0.05 if dtype == torch.bfloat16 else 1e-3)


@pytest.mark.parametrize("rank", [1, 4, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_singular_value_leaves_the_interval_whatever_the_spectrum(rank: int, dtype: torch.dtype) -> None:
    """Few large singular values and many equal ones are the two ends of what the bound must hold for."""
    left = torch.linalg.qr(random_matrices(2, 64, rank, seed=1)).Q
    right = torch.linalg.qr(random_matrices(2, 96, rank, seed=2)).Q
    found = orthogonalize(left @ right.mT, compute_dtype=dtype).double()
    values = torch.linalg.svdvals(found)[:, :rank]
    assert values.min() > 0.8
    assert values.max() < 1.2


def test_the_polynomials_together_keep_the_promised_interval_near_one() -> None:
    """In float64 and on numbers instead of matrices: what an exact orthogonalization would make 1."""
    start = torch.logspace(math.log10(0.02), 0.0, 10_000, dtype=torch.float64)
    values = start.clone()
    for a, b, c in POLAR_EXPRESS:
        values = a * values + b * values**3 + c * values**5
    assert values.min() > 0.88
    assert values.max() < 1.1


def test_a_matrix_of_zeros_stays_and_touches_no_other() -> None:
    matrices = random_matrices(2, 8, 8)
    alone = orthogonalize(matrices[1:], compute_dtype=torch.float32)
    matrices[0] = 0.0
    both = orthogonalize(matrices, compute_dtype=torch.float32)
    assert torch.equal(both[0], torch.zeros(8, 8))
    torch.testing.assert_close(both[1], alone[0], atol=1e-6, rtol=1e-5)


def steps_of(optimizer: Muon, matrices: list[torch.Tensor], num_steps: int) -> None:
    for number in range(num_steps):
        for index, matrix in enumerate(matrices):
            matrix.grad = random_matrices(*matrix.shape, seed=100 * number + index)
        optimizer.step()


def test_the_update_is_the_published_one_matrix_by_matrix() -> None:
    """Against a plain loop over matrices with an exact singular value decomposition, in float64."""
    shapes = [(24, 8), (8, 24), (24, 8), (12, 12)]
    matrices = [torch.nn.Parameter(random_matrices(*s, seed=50 + i)) for i, s in enumerate(shapes)]
    before = [m.detach().double().clone() for m in matrices]
    momenta = [torch.zeros_like(b) for b in before]
    optimizer = Muon(matrices, lr=0.1, momentum=0.9, weight_decay=0.0, compute_dtype=torch.float32)
    steps_of(optimizer, matrices, 3)
    for number in range(3):
        for index, shape in enumerate(shapes):
            gradient = random_matrices(*shape, seed=100 * number + index).double()
            momenta[index] = 0.9 * momenta[index] + 0.1 * gradient
            ahead = 0.1 * gradient + 0.9 * momenta[index]
            left, _, right = torch.linalg.svd(ahead, full_matrices=False)
            before[index] -= 0.1 * max(1.0, shape[0] / shape[1]) ** 0.5 * (left @ right)
    for matrix, expected in zip(matrices, before, strict=True):
        # The iteration leaves singular values up to 0.15 off, three steps of up to 0.17 long.
        difference = torch.linalg.matrix_norm(matrix.double() - expected, ord=2)
        assert difference < 3 * 0.17 * 0.15


def test_decay_acts_only_where_it_agrees_with_the_step() -> None:
    def run(weight_decay: float) -> torch.Tensor:
        matrix = torch.nn.Parameter(random_matrices(6, 6, seed=9))
        optimizer = Muon(
            [matrix], lr=0.1, momentum=0.9, weight_decay=weight_decay, compute_dtype=torch.float32
        )
        steps_of(optimizer, [matrix], 1)
        return matrix.detach()

    start = random_matrices(6, 6, seed=9)
    plain, decayed = run(0.0), run(0.5)
    towards_zero = (start - plain) * start > 0
    assert towards_zero.any()
    assert not towards_zero.all()
    torch.testing.assert_close(decayed[towards_zero], (plain - 0.1 * 0.5 * start)[towards_zero])
    assert torch.equal(decayed[~towards_zero], plain[~towards_zero])
