"""Optimizers, and which parameters each of them moves. Learning rate and momentum are set by the trainer each step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from core.errors import ConfigError, CorruptArtifactError, MismatchError
from core.setting_names import named
from core.training_config import OptimizationConfig
from training.muon import Muon
from training.parallel import spread_like
from training.schedules import muon_momentum

Optimizers = Sequence[torch.optim.Optimizer]

Value = TypeVar("Value")

ADAMW_STATE = {"step", "exp_avg", "exp_avg_sq"}
"""What torch's AdamW has of each parameter. Of other optimizers it is known only by what some parameters have."""


def _adamw(model: nn.Module, config: OptimizationConfig, _compute_dtype: torch.dtype) -> Optimizers:
    return [_adamw_of([p for p in model.parameters() if p.requires_grad], config)]


def _muon(model: nn.Module, config: OptimizationConfig, compute_dtype: torch.dtype) -> Optimizers:
    """Muon for the matrices of the blocks, AdamW for embeddings, head and norms, which are no maps between features."""
    matrices = [
        p for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2 and p.requires_grad
    ]
    ours = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in ours]
    muon = Muon(
        matrices,
        lr=config.matrix_learning_rate,
        momentum=muon_momentum(0),
        weight_decay=config.weight_decay,
        compute_dtype=compute_dtype,
    )
    return [muon, _adamw_of(rest, config)]


def _adamw_of(parameters: list[nn.Parameter], config: OptimizationConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019). Matrices decay; norms and biases do not: decay would pull a norm's
    scale to zero, where it means nothing."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cuda", "cpu") for p in parameters)
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=fused
    )


OPTIMIZERS: dict[str, Callable[[nn.Module, OptimizationConfig, torch.dtype], Optimizers]] = {
    "adamw": _adamw,
    "muon": _muon,
}
"""Name -> what makes the optimizers from (model, settings, type of the products); each group of parameters has its peak
learning rate as `lr`."""


def create_optimizers(
    model: nn.Module, config: OptimizationConfig, *, compute_dtype: torch.dtype = torch.float32
) -> Optimizers:
    """The optimizers of `model` under `config`; together they move every parameter.

    Args:
        compute_dtype: Of the products that an optimizer makes itself.

    Raises:
        ConfigError: there is no such optimizer.
    """
    make = named(config.optimizer, OPTIMIZERS, setting="optimizer", place="training.optimizer.OPTIMIZERS")
    optimizers = make(model, config, compute_dtype)
    for group in _groups(optimizers):
        group["peak_lr"] = group["lr"]
    return optimizers


def set_course(optimizers: Optimizers, *, learning_rate_share: float, step: int) -> None:
    """Use this share of each group's peak learning rate, and Muon's momentum of the step, for the next update."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * learning_rate_share
            if isinstance(optimizer, Muon):
                group["momentum"] = muon_momentum(step)


def take_step(optimizers: Optimizers, *, skip: torch.Tensor) -> None:
    """One update by each optimizer, or none at all.

    Whether there is one is selected, never multiplied in: 0 x NaN is NaN. Fused AdamW and Muon select on the device;
    for one that cannot, the host waits to know.

    Args:
        skip: () bool, on the device of the parameters.
    """
    one: Any
    for one in optimizers:
        # Torch's own name for optimizers that look at `found_inf` (torch.amp.GradScaler asks for it too).
        if getattr(one, "_step_supports_amp_scaling", False):
            one.found_inf = skip.float()
            one.step()
            one.found_inf = None
        elif not bool(skip):
            one.step()


def optimizer_tensors(model: nn.Module, optimizers: Optimizers) -> dict[str, torch.Tensor]:
    """The optimizers' state as named tensors, `<state>/<parameter>`, for a file without pickle.

    Raises:
        ConfigError: an optimizer of somebody's own keeps what cannot be put back.
    """
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    tensors = {
        f"{key}/{names[index]}": value
        for optimizer in optimizers
        for names in [_names_by_index(model, optimizer)]
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    for key, value in tensors.items():
        shape = shapes[key.partition("/")[2]]
        if not isinstance(value, torch.Tensor) or (value.ndim and value.shape != shape):
            found = list(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise ConfigError(
                f"optimizer: the state {key!r} is {found}; a checkpoint can hold tensors of the parameter's shape, "
                f"{list(shape)}, and such of a single number"
            )
    return tensors


def load_optimizer_tensors(
    model: nn.Module, optimizers: Optimizers, tensors: dict[str, torch.Tensor]
) -> None:
    """Put back what `optimizer_tensors` returned.

    Raises:
        MismatchError, CorruptArtifactError: as `check_optimizer_shapes`.
    """
    check_optimizer_shapes(model, optimizers, {key: tuple(tensor.shape) for key, tensor in tensors.items()})
    for optimizer in optimizers:
        _load_into(optimizer, _names_by_index(model, optimizer), tensors)


def check_optimizer_shapes(
    model: nn.Module, optimizers: Optimizers, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Nothing, when tensors of these names and shapes are a state that these optimizers can have.

    Raises:
        MismatchError: they are of other parameters than the model's.
        CorruptArtifactError: some are missing, or of another shape than their parameter.
    """
    known = {name for name, _ in model.named_parameters()}
    for key in shapes:
        if (name := key.partition("/")[2]) not in known:
            raise MismatchError(
                f"the optimizer state has {key!r:.80}, but the model has no parameter {name!r:.80}"
            )
    for optimizer in optimizers:
        names = _names_by_index(model, optimizer)
        if shapes:
            _check_complete(_by_parameter(shapes, names), names, optimizer)


def _by_parameter(values: Mapping[str, Value], names: Mapping[int, str]) -> dict[int, dict[str, Value]]:
    """What stands under `<state>/<parameter>`, by the number of the parameter and the kind of state."""
    indices = {name: index for index, name in names.items()}
    state: dict[int, dict[str, Value]] = {}
    for key, value in values.items():
        kind, _, name = key.partition("/")
        if name in indices:
            state.setdefault(indices[name], {})[kind] = value
    return state


def _load_into(
    optimizer: torch.optim.Optimizer, names: dict[int, str], tensors: dict[str, torch.Tensor]
) -> None:
    state = _by_parameter(tensors, names)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, values in state.items():
        # AdamW's counter of steps is no part of a parameter.
        state[index] = {k: spread_like(v, parameters[index]) if v.ndim else v for k, v in values.items()}
    # load_state_dict puts each tensor where this optimizer wants it (AdamW's step counter moves with `fused`).
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _check_complete(
    state: Mapping[int, Mapping[str, tuple[int, ...]]],
    names: Mapping[int, str],
    optimizer: torch.optim.Optimizer,
) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kinds = {kind for values in state.values() for kind in values}
    if isinstance(optimizer, torch.optim.AdamW):
        kinds |= ADAMW_STATE
    missing = [f"{k}/{name}" for i, name in names.items() for k in sorted(kinds) if k not in state.get(i, {})]
    if missing or not kinds:
        first = missing[0] if missing else next(iter(names.values()))
        raise CorruptArtifactError(
            f"the optimizer state lacks {first!r} ({len(missing) or len(names)} tensors in all)"
        )
    scalars = {kind for values in state.values() for kind, shape in values.items() if not shape}
    for index, values in state.items():
        for kind, shape in values.items():
            if shape and kind in scalars:
                raise CorruptArtifactError(
                    f"the optimizer state has {kind:.80} as a number of some parameters and as a tensor of others"
                )
            if shape and shape != tuple(parameters[index].shape):
                raise CorruptArtifactError(
                    f"the optimizer state has {kind:.80}/{names[index]} of shape {list(shape)!s:.80} instead of "
                    f"{list(parameters[index].shape)}"
                )


def _groups(optimizers: Optimizers) -> Iterator[dict[str, Any]]:
    for optimizer in optimizers:
        yield from optimizer.param_groups


def _names_by_index(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[int, str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {index: names[id(parameter)] for index, parameter in enumerate(ordered)}
