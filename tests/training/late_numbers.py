"""A device that computes beside the host, pretended on the CPU."""

import torch

from training.step_report import Numbers


class LateNumbers(Numbers):
    """Those of a device, which has to be waited for."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__(values)
        self.was_read = False

    def are_on_host(self) -> bool:
        return False

    def read(self) -> list[float]:
        self.was_read = True
        return super().read()
