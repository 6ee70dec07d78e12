"""How much of the device's speed a training uses. Knows the arithmetic of a step, no clock."""

import dataclasses

import torch

from models.counting import flops_per_token
from training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Utilization:
    """What the speed of a training is compared with."""

    label: str
    """"MFU" where the device's peak is known; "matmul" where it is the speed of plain products measured here."""
    metric: str
    flops_per_token: int
    flops_per_second: float

    def of(self, tokens_per_second: float) -> float:
        """The share of that speed that so many tokens a second use, forward and backward (0 to 1, and above 1 where
        the products were measured beside other work)."""
        return tokens_per_second * self.flops_per_token / self.flops_per_second


def utilization_of(trainer: Trainer) -> Utilization:
    """What the training of `trainer` is compared with; where no peak is known this measures for some milliseconds."""
    operations = flops_per_token(trainer.model.config, context=trainer.model.config.max_position_embeddings)
    peak = trainer.device_manager.get_device_info()["peak_flops"]
    if peak is not None and trainer.compute_dtype == torch.bfloat16:  # the peak that is known is bfloat16's
        return Utilization("MFU", "train/mfu", operations, peak)
    speed = trainer.device_manager.measured_flops(trainer.compute_dtype)
    return Utilization("matmul", "train/share_of_matmul_speed", operations, speed)
