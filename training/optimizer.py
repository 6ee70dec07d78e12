"""Optimizers and what each parameter gets of weight decay. The learning rate is set by the trainer each step."""

from collections.abc import Callable

import torch
from torch import nn

from core.errors import MismatchError
from core.training_config import OptimizationConfig


def _adamw(model: nn.Module, config: OptimizationConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019). Matrices decay; norms and biases do not: decay would pull a norm's
    scale to zero, where it means nothing."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cuda", "cpu") for p in parameters)
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=fused
    )


OPTIMIZERS: dict[str, Callable[[nn.Module, OptimizationConfig], torch.optim.Optimizer]] = {"adamw": _adamw}


def create_optimizer(model: nn.Module, config: OptimizationConfig) -> torch.optim.Optimizer:
    """The optimizer for `model` under `config`."""
    return OPTIMIZERS["adamw"](model, config)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Use `value` for the next update, in every group."""
    for group in optimizer.param_groups:
        group["lr"] = value


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state as named tensors, `<state>/<parameter>`, for a file without pickle."""
    names = _names_by_index(model, optimizer)
    return {
        f"{key}/{names[index]}": value
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def load_optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    """Put back what `optimizer_tensors` returned.

    Raises:
        MismatchError: the tensors are of other parameters than the model's.
    """
    names = _names_by_index(model, optimizer)
    indices = {name: index for index, name in names.items()}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        if name not in indices:
            raise MismatchError(f"the optimizer state has {key!r}, but the model has no parameter {name!r}")
        state.setdefault(indices[name], {})[kind] = value
    if state and len(state) != len(indices):
        missing = sorted(name for index, name in names.items() if index not in state)
        raise MismatchError(f"the optimizer state lacks {missing[0]!r} ({len(missing)} parameters in all)")
    # load_state_dict puts each tensor where this optimizer wants it (AdamW's step counter moves with `fused`).
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _names_by_index(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[int, str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {index: names[id(parameter)] for index, parameter in enumerate(ordered)}
