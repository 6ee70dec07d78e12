"""What `trainer/state.json` must hold for a run to go on exactly. Knows names, no values."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.errors import CorruptArtifactError
from training.checkpoint import STATE_FILE
from training.run_length import RunLength
from training.schedules import Horizon
from training.stability import Stability
from training.trainer import Progress

STATE_KEYS = (
    "progress",
    "length",
    "horizon",
    "model",
    "tokenizer_fingerprint",
    "data_fingerprint",
    "loss_function",
    "numerics",
)


def check_state(state: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuse a state of which a part would be filled in by a default.

    Raises:
        CorruptArtifactError: a name is missing or unknown; the message says which.
    """
    origin = str(checkpoint / STATE_FILE)
    _check_names(state, STATE_KEYS, origin)
    for key, kind in (("progress", Progress), ("length", RunLength), ("horizon", Horizon)):
        _check_names(state[key], [field.name for field in dataclasses.fields(kind)], f"{origin}: {key}")
    stability = [field.name for field in dataclasses.fields(Stability)]
    _check_names(state["progress"]["stability"], stability, f"{origin}: progress.stability")


def read_progress(values: Mapping[str, Any]) -> Progress:
    """The progress that `dataclasses.asdict` made `values` of."""
    return Progress(**{**values, "stability": Stability(**values["stability"])})


def _check_names(found: Mapping[str, Any], expected: Iterable[str], origin: str) -> None:
    problems = [
        *(f"lacks {name!r}" for name in expected if name not in found),
        *(f"has an unknown {name!r}" for name in found if name not in expected),
    ]
    if problems:
        raise CorruptArtifactError(
            f"{origin} {' and '.join(problems)}; it was damaged or written by another version of the program, so "
            "training cannot go on exactly: resume from another checkpoint, or start anew from its weights"
        )
