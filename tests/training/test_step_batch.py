import itertools
from typing import Any

import pytest

from core.errors import ConfigError
from core.training_config import TrainingConfig
from training.step_batch import StepBatch, share_step


def shared(num_processes: int, *, context: int = 16, rows: int | None = None, **settings: Any) -> StepBatch:
    config = TrainingConfig.from_dict(settings)
    return share_step(config, context=context, num_processes=num_processes, rows=rows)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 64])
@pytest.mark.parametrize("num_processes", [1, 2, 3, 4, 6, 12, 24])
def test_any_number_of_processes_learns_from_the_same_rows_in_each_step(
    num_processes: int, batch_size: int
) -> None:
    batch = shared(num_processes, batch_size=batch_size, global_batch_tokens=24 * 16)
    assert batch.micro_batch_rows <= batch_size
    for step in range(3):
        rows = []
        for rank in range(num_processes):
            numbers = batch.numbers(rank=rank, first_step=step)
            for number in itertools.islice(numbers, batch.micro_batches_each):
                start = number * batch.micro_batch_rows
                rows += range(start, start + batch.micro_batch_rows)
        assert rows == list(range(step * 24, (step + 1) * 24))


def test_without_a_size_of_the_whole_step_each_process_adds_its_own() -> None:
    batch = shared(4, batch_size=3, gradient_accumulation_steps=2)
    assert batch == StepBatch(rows=24, micro_batch_rows=3, num_processes=4)
    assert batch.micro_batches_each == 2


def test_a_run_under_way_keeps_the_rows_of_its_step() -> None:
    assert shared(2, batch_size=3, rows=24) == StepBatch(rows=24, micro_batch_rows=3, num_processes=2)
    # 12 rows each are no multiple of 5: the micro-batch gets smaller, not the step.
    assert shared(2, batch_size=5, rows=24) == StepBatch(rows=24, micro_batch_rows=4, num_processes=2)


@pytest.mark.parametrize(
    ("num_processes", "settings", "message"),
    [
        (
            1,
            {"global_batch_tokens": 40},
            "40 tokens are no whole number of rows of 16 tokens .* 32 or 48 would be",
        ),
        (1, {"global_batch_tokens": 10}, "10 tokens are no whole number of rows of 16 tokens .* 16 would be"),
        (
            5,
            {"global_batch_tokens": 96},
            "6 rows of 16 tokens, which 5 processes cannot share evenly; start one of 1, 2, 3, 6 processes",
        ),
    ],
)
def test_a_step_that_cannot_be_divided_says_what_could_be(
    num_processes: int, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        shared(num_processes, **settings)


def test_two_ways_of_saying_how_large_a_step_is_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="global_batch_tokens and gradient_accumulation_steps=2 both say"):
        TrainingConfig.from_dict({"global_batch_tokens": 64, "gradient_accumulation_steps": 2})
