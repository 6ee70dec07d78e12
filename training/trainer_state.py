"""What `trainer/state.json` must hold for a run to go on exactly. Knows names and types, no values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import CorruptArtifactError
from training.checkpoint import STATE_FILE
from training.run_length import read_length
from training.schedules import Horizon
from training.stability import Stability
from training.stored_values import check_names, stored
from training.trainer import Progress

STATE_KINDS: Mapping[str, Any] = {
    "progress": Progress,
    "length": dict,
    "horizon": Horizon,
    "model": dict,
    "tokenizer_fingerprint": str | None,
    "data_fingerprint": str | None,
    "loss_function": str,
    "numerics": dict,
}


def check_state(state: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuse a state of which a part would be filled in by a default, or is none that a run can be in.

    Raises:
        CorruptArtifactError: a name is missing or unknown, or a value is impossible; the message says which.
    """
    origin = str(checkpoint / STATE_FILE)
    check_names(state, STATE_KINDS, origin)
    for key, kind in STATE_KINDS.items():
        stored(kind, state[key], origin=f"{origin}: {key}")
    read_length(state["length"], origin=f"{origin}: length")
    stored(Stability, state["progress"]["stability"], origin=f"{origin}: progress.stability")
    if (state["progress"]["loss_scale"] is None) != (state["length"]["compute_dtype"] != "float16"):
        raise CorruptArtifactError(
            f"{origin}: progress.loss_scale is {state['progress']['loss_scale']}, but length.compute_dtype is "
            f"{state['length']['compute_dtype']}, and only float16 has one; resume from another checkpoint"
        )
    if state["horizon"]["from_step"] > state["progress"]["step"]:
        raise CorruptArtifactError(
            f"{origin}: horizon.from_step is {state['horizon']['from_step']}, after the {state['progress']['step']} "
            "steps that were done; resume from another checkpoint"
        )


def read_progress(values: Mapping[str, Any]) -> Progress:
    """The progress that `dataclasses.asdict` made `values` of."""
    return Progress(**{**values, "stability": Stability(**values["stability"])})
