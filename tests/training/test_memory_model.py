"""The memory that is foreseen, beside that of real processes and of tensors that have data."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from core.training_config import ModelConfig, TrainingConfig
from models.counting import count_parameters
from tests.line_kit import environment
from training.memory_model import above_libraries, step_memory

CHILD = Path(__file__).with_name("memory_child.py")

CASES: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "eager": ({"hidden_size": 256, "num_layers": 6, "num_attention_heads": 4}, {"batch_size": 8}),
    "selective": (
        {"hidden_size": 384, "num_layers": 4, "num_attention_heads": 6},
        {"batch_size": 8, "gradient_checkpointing": "selective"},
    ),
    "full, Muon": (
        {"hidden_size": 384, "num_layers": 4, "num_attention_heads": 6},
        {"batch_size": 12, "gradient_checkpointing": "full", "optimizer": "muon"},
    ),
    "float32, accumulation": (
        {"hidden_size": 192, "num_layers": 4, "num_attention_heads": 3},
        {"batch_size": 8, "gradient_accumulation_steps": 2, "mixed_precision": "fp32"},
    ),
    "large vocabulary": (
        {"hidden_size": 256, "num_layers": 2, "num_attention_heads": 4, "vocab_size": 16_384},
        {"batch_size": 4},
    ),
}


def settings(case: str) -> tuple[ModelConfig, TrainingConfig]:
    shape, training = CASES[case]
    return (
        ModelConfig(**{"vocab_size": 4096, "max_position_embeddings": 256, **shape}),
        TrainingConfig.from_dict(
            {"mixed_precision": "bf16", "optimizer": "adamw", "save_in_background": False, **training}
        ),
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory as Linux tells it")
@pytest.mark.parametrize("case", CASES)
def test_the_peak_of_a_real_process_is_foreseen_within_15_percent(case: str) -> None:
    shape, config = settings(case)
    dtype = torch.float32 if config.mixed_precision == "fp32" else torch.bfloat16
    foreseen = above_libraries(step_memory(shape, config, compute_dtype=dtype), "cpu")
    # Equal runs differ by up to a fifth in where their blocks come to lie: the middle one of three is what is foreseen.
    measured = [peak_of_a_process(shape, config) for _ in range(2)]
    if not all(foreseen == pytest.approx(peak, rel=0.15) for peak in measured):
        # Of three of which two are near enough, the middle one is so too; only otherwise the third decides.
        measured.append(peak_of_a_process(shape, config))
    print(
        f"{case}: foreseen {foreseen / 1e6:.1f} MB, measured {[round(peak / 1e6, 1) for peak in measured]} MB"
    )
    assert foreseen == pytest.approx(statistics.median(measured), rel=0.15)


def peak_of_a_process(shape: ModelConfig, config: TrainingConfig) -> int:
    """Bytes that training added to a process at most."""
    result = subprocess.run(
        [sys.executable, str(CHILD), json.dumps(shape.to_dict()), json.dumps(config.to_dict())],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(result.stdout)


def test_weights_gradients_and_state_are_what_arithmetic_says() -> None:
    shape, config = settings("eager")
    memory = step_memory(shape, config.replace(save_in_background=True), compute_dtype=torch.bfloat16, rows=1)
    number = count_parameters(shape).total
    assert memory.weights == memory.gradients == 4 * number
    assert memory.optimizer == pytest.approx(8 * number, rel=0.01)
    assert memory.checkpoint_copy == memory.weights + memory.optimizer
    assert memory.peak_bytes > memory.weights + memory.optimizer + memory.activations + memory.checkpoint_copy


def test_each_mode_of_checkpointing_keeps_less_than_the_one_before() -> None:
    shape, config = settings("eager")
    kept = [
        step_memory(
            shape, config.replace(gradient_checkpointing=mode), compute_dtype=torch.bfloat16
        ).activations
        for mode in ("none", "selective", "full")
    ]
    assert kept[1] < 0.5 * kept[0]
    assert kept[2] < 0.4 * kept[1]


def test_what_is_kept_grows_with_the_rows_and_weights_do_not() -> None:
    shape, config = settings("eager")
    one, two, four = (
        step_memory(shape, config, compute_dtype=torch.bfloat16, rows=rows) for rows in (1, 2, 4)
    )
    assert one.weights == four.weights
    assert four.activations - two.activations == pytest.approx(2 * (two.activations - one.activations))


def test_looking_ahead_takes_no_memory_and_draws_no_random_numbers() -> None:
    state = torch.random.get_rng_state()
    memory = step_memory(
        ModelConfig(hidden_size=4096, num_layers=2, num_attention_heads=32, vocab_size=32_000),
        TrainingConfig(batch_size=64),
        compute_dtype=torch.bfloat16,
    )
    assert memory.peak_bytes > 5e9
    assert torch.equal(state, torch.random.get_rng_state())
