"""Low-rank adapters (Hu et al. 2021) on the matrices of the blocks: added, counted out, merged. Knows no file.

Shapes: I inputs and O outputs of a linear layer, r its adapter's rank.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import ConfigError
from core.seeds import derive_seed
from core.tuning_config import InstructionConfig, LoraConfig
from models.transformer_lm import Adapters, TransformerLM

DOWN, UP = "lora_down", "lora_up"
"""Last parts of the names of an adapter's matrices, (r, I) and (O, r)."""

ROWS = {"embedding.weight": "lora_rows", "head.weight": "lora_head_rows"}
"""Names of weights of which a few rows learn -> names of the parameters that have these rows."""


class LoraLinear(nn.Linear):
    """A linear layer whose own weights stay: it learns `scale x up(down(dropout(x)))` beside them.

    Args:
        linear: Whose weights it takes over, under their names.
        seed: Of `down`; `up` begins at zero, so that at first nothing is changed.
    """

    def __init__(self, linear: nn.Linear, settings: LoraConfig, *, seed: int) -> None:
        nn.Module.__init__(self)
        assert settings.rank is not None
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = scale_of(settings)
        self.dropout: nn.Module = nn.Dropout(settings.dropout) if settings.dropout else nn.Identity()
        weight = linear.weight
        # As torch begins its linear layers, and peft its adapters.
        bound = 1 / math.sqrt(self.in_features)
        down = weight.new_empty(settings.rank, self.in_features)
        if not down.is_meta:
            down.uniform_(-bound, bound, generator=torch.Generator(weight.device).manual_seed(seed))
        self.lora_down = nn.Parameter(down)
        self.lora_up = nn.Parameter(weight.new_zeros(self.out_features, settings.rank))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., I) to (..., O)."""
        learned = F.linear(F.linear(self.dropout(x), self.lora_down), self.lora_up)
        return F.linear(x, self.weight, self.bias) + self.scale * learned


def scale_of(settings: LoraConfig) -> float:
    """What the product of an adapter's matrices is multiplied with."""
    assert settings.rank is not None
    return settings.alpha / settings.rank


def add_adapters(
    model: TransformerLM, settings: LoraConfig, *, seed: int, tokens: Sequence[int] = ()
) -> None:
    """Give every linear layer of the blocks an adapter, in place, and let nothing else learn; what `model` computes
    stays the same for now.

    Args:
        tokens: Whose rows of embedding and head learn too: those of chats, which pretraining never saw. Without them a
            third of the answers ended at rank 8 (docs/experiments.md).

    Raises:
        ConfigError: it has adapters already.
    """
    if model.adapters is not None:
        raise ConfigError(
            f"the model has adapters of rank {model.adapters.settings.rank} already; load the one that they were added "
            "to anew"
        )
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for name, module in list(model.blocks.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, last = name.rpartition(".")
            adapted = LoraLinear(module, settings, seed=derive_seed(seed, "lora", name))
            setattr(model.blocks.get_submodule(parent), last, adapted)
    model.adapters = Adapters(settings, tuple(sorted(tokens)))
    if tokens:
        places = list(model.adapters.tokens)
        model.lora_rows = nn.Parameter(model.embedding.weight[places].detach().clone())
        if model.head is not None:
            model.lora_head_rows = nn.Parameter(model.head.get_parameter("weight")[places].detach().clone())


def prepare_tuning(
    model: TransformerLM, config: InstructionConfig, *, chat_tokens: Sequence[int] = ()
) -> None:
    """Give the model what the settings of tuning ask for, in place: noise on embeddings, adapters.

    Args:
        chat_tokens: As `add_adapters`.
    """
    model.embedding_noise = config.embedding_noise
    if config.lora.rank is not None:
        add_adapters(model, config.lora, seed=config.seed, tokens=chat_tokens)


def is_of_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter, and not to the model that it is added to."""
    return name.endswith((DOWN, UP)) or name in ROWS.values()


def merged(state: Mapping[str, Tensor], adapters: Adapters | None) -> dict[str, Tensor]:
    """The state dict of a plain model that computes what the one with adapters does, to rounding; `state` itself where
    there are none."""
    if adapters is None:
        return dict(state)
    result = {name: tensor for name, tensor in state.items() if not is_of_adapter(name)}
    for name in state:
        if name.endswith(UP):
            layer = name.removesuffix(UP)
            result[f"{layer}weight"] = torch.addmm(
                state[f"{layer}weight"],
                state[name],
                state[f"{layer}{DOWN}"],
                alpha=scale_of(adapters.settings),
            )
    for weight, rows in ROWS.items():
        if rows in state:
            places = torch.tensor(adapters.tokens, device=state[rows].device)
            result[weight] = state[weight].index_copy(0, places, state[rows])
    return result


def fingerprint_of_base(model: TransformerLM) -> str:
    """SHA-256 over the weights that adapters are added to, which a checkpoint of adapters alone does not hold."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not is_of_adapter(name):
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
