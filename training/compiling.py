"""Whether a run goes through torch.compile. Knows devices and seconds, no model."""

import logging

import torch

from core.device_manager import compile_problem
from core.errors import ConfigError

logger = logging.getLogger(__name__)

PAYS_AFTER_SECONDS = 90.0
"""Compiling blocks and loss takes 5 to 30 s on two cores; steps then take 0.55 to 0.7 of the time."""


def should_compile(setting: str, device: torch.device, *, expected_seconds: float) -> bool:
    """Whether a run of this expected length is compiled.

    Args:
        setting: "on", "off", or "auto": where it works and pays.

    Raises:
        ConfigError: it is asked for and does not work here.
    """
    if setting == "off" or (setting == "auto" and expected_seconds < PAYS_AFTER_SECONDS):
        return False
    if setting == "auto" and device.type == "mps":
        return False  # torch calls it a prototype there
    problem = compile_problem(device)
    if problem is not None and setting == "on":
        raise ConfigError(
            f"training.compile: on, but torch.compile does not work here ({problem}); install a C++ compiler "
            "(g++ or clang++) with Python's headers, or leave it at auto"
        )
    if problem is not None:
        logger.info("training is not compiled, which would be about 1.5 times as fast: %s", problem)
    return problem is None
