"""A function of whole matrices whose rows are spread over processes: each matrix is computed by one process only.

Knows how rows travel, not what is computed. Shapes: K matrices of m rows and n columns, W processes that share them.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from core.distributed import explain_lost_peers
from training.parallel import is_spread


def of_whole_matrices(function: Callable[[Tensor], Tensor], parts: Tensor, *, like: Any) -> Tensor:
    """This process' rows of `function` of whole matrices.

    Every process gets K / W of the matrices whole, in one exchange of all with all, and sends the rows of the results
    back in another: each row travels twice, where gathering every matrix everywhere would send it W times and compute
    all K matrices W times.

    Args:
        function: (K', m', n) to the same shape, for any K'; rows of zeros must come out as zeros and change nothing.
        parts: (K, rows of this process, n), contiguous.
        like: One of the matrices, spread by its rows (`Shard(0)`); where it is not spread, `function` is applied
            directly.
    """
    if not is_spread(like):
        return function(parts)
    group, num_processes = _group_that_shares(like)
    num_matrices, num_rows, n = parts.shape
    # Shards are cut as torch.chunk cuts: all of the first one's height, but for the last ones.
    height = -(-like.shape[0] // num_processes)
    num_each = -(-num_matrices // num_processes)
    padded = F.pad(parts, (0, 0, 0, height - num_rows, 0, num_each * num_processes - num_matrices))
    # Block w of what is sent goes to process w, block w of what comes in is from it.
    mine = _exchange(padded.view(num_processes, num_each, height, n), group)
    whole = mine.transpose(0, 1).reshape(num_each, num_processes * height, n)
    result = function(whole).view(num_each, num_processes, height, n)
    back = _exchange(result.transpose(0, 1).contiguous(), group)
    return back.view(num_each * num_processes, height, n)[:num_matrices, :num_rows]


def _exchange(blocks: Tensor, group: Any) -> Tensor:
    received = torch.empty_like(blocks)
    with explain_lost_peers():
        dist.all_to_all_single(received, blocks, group=group)
    return received


def _group_that_shares(like: Any) -> tuple[Any, int]:
    """The processes over which rows are spread; other dimensions of the mesh hold copies."""
    dimensions = [index for index, placement in enumerate(like.placements) if placement.is_shard()]
    assert len(dimensions) == 1, f"spread over one dimension of processes, not {like.placements}"
    assert like.placements[dimensions[0]].dim == 0
    mesh = like.device_mesh
    return mesh.get_group(dimensions[0]), mesh.size(dimensions[0])
