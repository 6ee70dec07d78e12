"""One model on several devices: copies that share gradients (DDP), or one that is spread over them (FSDP2, HSDP).

Knows torch's ways of doing so, no batches and no files. Gradients come out as the mean over the processes.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from core.device_manager import DeviceManager
from core.distributed import World, explain_lost_peers
from core.errors import ConfigError
from models.counting import count_parameters
from models.transformer_lm import TransformerLM

Kind = Literal["single", "ddp", "fsdp", "hsdp"]

STATE_BYTES = 16
"""A parameter in training: float32 weight, gradient, and AdamW's two moments."""

MOST_FOR_COPIES = 0.4
"""Share of a device's memory that the state may take for each device to hold all of it; activations need the rest
(arbitrary)."""


class ParallelModel:
    """A model and how its processes work on it together.

    Args:
        model: On its device; spread in place for "fsdp" and "hsdp": its parameters become DTensors.
        summed_loss: `(model, batch, document_masking=…) -> summed loss`.
        compute_dtype: Of the products; the parts of a spread model are gathered in it.
    """

    def __init__(
        self,
        model: TransformerLM,
        summed_loss: Callable[..., Tensor],
        *,
        kind: Kind,
        world: World,
        device: torch.device,
        compute_dtype: torch.dtype,
    ) -> None:
        self.kind = kind
        self.model = model
        self.world = world
        self._loss: nn.Module = _Loss(model, summed_loss)
        if kind == "ddp":
            # Its hooks run when gradients are there, whatever part of the model made them.
            self._loss = DistributedDataParallel(self._loss, gradient_as_bucket_view=True)
        elif kind in ("fsdp", "hsdp"):
            _spread(model, kind, world, device, compute_dtype)

    def summed_loss(self, batch: Mapping[str, Tensor], *, document_masking: bool) -> Tensor:
        """The loss of a batch of this process, as the function given says."""
        # DDP's own forward prepares for a backward pass that an evaluation never makes.
        loss = self._loss if torch.is_grad_enabled() else getattr(self._loss, "module", self._loss)
        value: Tensor = loss(batch, document_masking)
        return value

    @contextlib.contextmanager
    def accumulating(self, *, last: bool) -> Iterator[None]:
        """For forward and backward of one micro-batch: gradients travel with the last one of a step only."""
        with explain_lost_peers():
            if isinstance(self._loss, DistributedDataParallel) and not last:
                with self._loss.no_sync():
                    yield
                return
            if self.kind in ("fsdp", "hsdp"):
                self.model.set_requires_gradient_sync(last)  # type: ignore[operator]
            yield

    def clip_gradient(self, max_norm: float) -> Tensor:
        """Scale the gradient down to this L2 norm, and return the norm that it had, over all processes: () float32."""
        with explain_lost_peers():
            return whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm))

    def agree_on(self, loss: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the processes' losses, and the norm, NaN in all of them if one has no finite loss and norm.

        Both are () float32. No host waits for it; so all processes skip an update, or none does.
        """
        norm = torch.where(torch.isfinite(loss), norm, torch.nan)
        if self.world.size == 1:
            return loss, norm
        both = torch.stack([loss / self.world.size, (~torch.isfinite(norm)).float()])
        with explain_lost_peers():
            dist.all_reduce(both)
        mean, num_bad = both.unbind()
        return mean, torch.where((num_bad > 0) & torch.isfinite(norm), torch.nan, norm)


class _Loss(nn.Module):
    """The loss as a module's forward, which is what DDP wraps."""

    def __init__(self, model: TransformerLM, summed_loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self._summed_loss = summed_loss

    def forward(self, batch: Mapping[str, Tensor], document_masking: bool) -> Tensor:
        return self._summed_loss(self.model, batch, document_masking=document_masking)


def choose_kind(setting: str, model: TransformerLM, device_manager: DeviceManager, world: World) -> Kind:
    """How `parallel` is carried out here.

    Raises:
        ConfigError: hsdp is asked for on machines that cannot be grouped.
    """
    if world.size == 1:
        return "single"
    if setting == "auto":
        state = STATE_BYTES * count_parameters(model.config).total
        room = MOST_FOR_COPIES * device_manager.total_memory_bytes()
        if device_manager.device.type == "cpu":
            room /= world.local_size  # the processes of a machine share its memory
        return "ddp" if state <= room else "fsdp"
    if setting == "hsdp" and world.size % world.local_size:
        raise ConfigError(
            f"training.parallel: hsdp spreads a model over the {world.local_size} processes of a machine, and "
            f"{world.size} processes are no multiple of that; start as many on each machine, or use fsdp"
        )
    kinds: dict[str, Kind] = {"ddp": "ddp", "fsdp": "fsdp", "hsdp": "hsdp"}
    return kinds[setting]


def _spread(
    model: TransformerLM, kind: Kind, world: World, device: torch.device, compute_dtype: torch.dtype
) -> None:
    """FSDP2 (`fully_shard`): each block's weights are gathered for its forward and its backward only.

    Blocks are gathered in the type of the products, which they would be cast to anyway (the norms' weights too: these
    round to bfloat16 then); gradients are added up in float32. What stands outside the blocks stays in float32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    if kind == "hsdp":
        # Spread within a machine, where links are fast; copies between machines.
        mesh = init_device_mesh(
            device.type,
            (world.size // world.local_size, world.local_size),
            mesh_dim_names=("replicate", "shard"),
        )
    else:
        mesh = init_device_mesh(device.type, (world.size,), mesh_dim_names=("shard",))
    low = MixedPrecisionPolicy(
        param_dtype=None if compute_dtype == torch.float32 else compute_dtype,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=low)
    # The head is used after the model's forward, by the loss: it stays gathered until the backward pass.
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    register_fsdp_forward_method(model, "features")


def is_spread(tensor: Tensor) -> bool:
    """Whether processes hold parts of this tensor only (a DTensor)."""
    # Nothing is, before somebody has imported what makes it so, which takes a second.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def whole(tensor: Any) -> Tensor:
    """All of a tensor that may be spread. Every process must ask at the same point."""
    full: Tensor = tensor.full_tensor() if is_spread(tensor) else tensor
    return full


def local(tensor: Any) -> Tensor:
    """This process' part of a tensor that may be spread, sharing its memory."""
    part: Tensor = tensor.to_local() if is_spread(tensor) else tensor
    return part


def spread_like(full: Tensor, like: Any) -> Tensor:
    """`full`, which every process has, spread as `like` is; no process is asked for anything."""
    if not is_spread(like):
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def load_weights(model: TransformerLM, weights: Mapping[str, Tensor]) -> None:
    """Put whole weights into a model that may be spread; the names must be those of all that learn."""
    parameters: dict[str, Any] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert parameters.keys() == weights.keys()
    for name, parameter in parameters.items():
        parameter.copy_(spread_like(weights[name], parameter))
