"""Several processes that train one model: the run is that of a single one, and no process leaves it unnoticed."""

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.faults.several_processes import final_weights, finish, losses, start, train

pytestmark = [pytest.mark.fault, pytest.mark.slow]

NUM_STEPS = 8
ROWS_OF_TOKENS = 16
SETTINGS = {
    "total_steps": NUM_STEPS,
    "save_steps": 4,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "batch_size": 2,
    "global_batch_tokens": 8 * ROWS_OF_TOKENS,
    "compile": "off",
    "model": {"dropout": 0.0},
}
"""8 rows a step, of which each process takes at most two at a time."""

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw"},
    # Its decay is cautious: where a step is next to zero, rounding decides whether a weight decays in it. That is a
    # difference of learning rate x decay x weight (here up to 4e-5) and no error, so it is left out where bits count.
    "muon": {"optimizer": "muon", "weight_decay": 0.0},
}

ROUNDING = 2e-6
"""Of weights after 8 steps at a learning rate of 1e-3, where each update is at most that large: sums over processes are
added in another order."""

HAS_COMPILER = any(map(shutil.which, ("g++", "clang++")))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of a single process, by optimizer."""
    root = tmp_path_factory.mktemp("alone")
    for name, settings in OPTIMIZERS.items():
        train(root / name, {**SETTINGS, **settings}, processes=1)
    return {name: root / name for name in OPTIMIZERS}


@pytest.mark.parametrize(
    ("parallel", "optimizer", "processes", "machines"),
    [
        ("ddp", "adamw", 2, 1),
        ("ddp", "muon", 2, 1),
        ("fsdp", "adamw", 2, 1),
        ("fsdp", "muon", 2, 1),
        ("hsdp", "muon", 4, 2),
    ],
)
def test_several_processes_end_with_the_weights_of_one(
    tmp_path: Path, alone: dict[str, Path], parallel: str, optimizer: str, processes: int, machines: int
) -> None:
    settings = {**SETTINGS, "parallel": parallel, **OPTIMIZERS[optimizer]}
    train(tmp_path, settings, processes=processes, machines=machines)
    expected, found = final_weights(alone[optimizer]), final_weights(tmp_path)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=ROUNDING)
    assert losses(tmp_path) == pytest.approx(losses(alone[optimizer]), rel=1e-6)
    # The optimizer's numbers are written whole as well, and are the same.
    state = f"step_{NUM_STEPS}/trainer/optimizer.safetensors"
    ours, theirs = load_file(tmp_path / state), load_file(alone[optimizer] / state)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-7)


def test_spread_matrices_decay_as_whole_ones_but_where_a_step_is_next_to_zero(tmp_path: Path) -> None:
    # Two updates: what a difference does to the gradients after it is not looked at.
    settings = {**SETTINGS, "optimizer": "muon", "total_steps": 2, "weight_decay": 0.1}
    train(tmp_path / "one", settings, processes=1)
    train(tmp_path / "two", {**settings, "parallel": "fsdp"}, processes=2)
    expected, found = final_weights(tmp_path / "one"), final_weights(tmp_path / "two")
    distances = torch.cat([(found[name] - weight).abs().flatten() for name, weight in expected.items()])
    assert (distances > ROUNDING).float().mean() < 1e-3
    largest = max(float(weight.abs().max()) for weight in expected.values() if weight.ndim == 2)
    assert distances.max() < 2 * 0.02 * 0.1 * largest


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"parallel": "ddp", "model": {"dropout": 0.1}}, id="ddp, dropout"),
        pytest.param({"parallel": "fsdp", "optimizer": "muon", "model": {"dropout": 0.1}}, id="fsdp, muon"),
        pytest.param(
            {"parallel": "fsdp", "compile": "on"},
            id="fsdp, compiled",
            marks=pytest.mark.skipif(not HAS_COMPILER, reason="torch.compile needs a C++ compiler"),
        ),
    ],
)
def test_when_a_process_is_killed_the_others_end_and_the_run_goes_on_with_the_same_bits(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    settings = {**SETTINGS, **settings}
    train(tmp_path / "straight", settings, processes=2)
    trouble = {"kind": "killed", "rank": 1, "step": 6}
    codes, errors = finish(start(tmp_path / "killed", settings, processes=2, trouble=trouble))
    assert codes == [70, -9]
    assert "error[E034]: another process of this run ended" in errors[0]
    assert "Traceback" not in errors[0]
    _, errors = finish(start(tmp_path / "killed", settings, processes=2))
    assert "going on from step 4 (bit-exact)" in errors[0]
    expected, found = final_weights(tmp_path / "straight"), final_weights(tmp_path / "killed")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_process_that_hangs_ends_the_run_with_a_message(tmp_path: Path) -> None:
    limit = 15
    trouble = {"kind": "hangs", "rank": 1, "step": 5}
    processes = start(tmp_path, SETTINGS, processes=2, trouble=trouble, timeout_seconds=limit)
    _, errors = processes[0].communicate(timeout=limit + 60)
    processes[1].send_signal(signal.SIGUSR1)
    time.sleep(0.5)
    processes[1].kill()
    _, of_the_other = processes[1].communicate()
    assert processes[0].returncode == 70
    # It told by itself where it stood, and once more when it was asked.
    assert f"Timeout (0:00:{limit})!" in of_the_other
    assert of_the_other.count("in strike") == 2
    assert f"did not answer for {limit} s" in errors
    assert (tmp_path / "step_4" / "MANIFEST.json").exists()


def test_a_signal_to_one_process_saves_the_run_and_ends_them_all(
    tmp_path: Path, alone: dict[str, Path]
) -> None:
    trouble = {"kind": "stopped", "rank": 1, "step": 5}
    codes, errors = finish(start(tmp_path, SETTINGS, processes=2, trouble=trouble))
    assert codes == [75, 75]
    assert "a signal to another process at step 5 of 8" in errors[0]
    assert "SIGTERM at step 5 of 8" in errors[1]
    train(tmp_path, SETTINGS, processes=2)
    for name, weight in final_weights(alone["adamw"]).items():
        torch.testing.assert_close(final_weights(tmp_path)[name], weight, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("kind", "parallel"), [("gradient", "ddp"), ("norm", "fsdp")])
def test_a_gradient_that_is_not_finite_in_one_process_is_skipped_by_all(
    tmp_path: Path, kind: str, parallel: str
) -> None:
    settings = {**SETTINGS, "parallel": parallel}
    train(tmp_path / "two", settings, processes=2, trouble={"kind": kind, "rank": 1, "step": 5})
    train(tmp_path / "one", settings, processes=1, trouble={"kind": kind, "rank": 0, "step": 5})
    for name, weight in final_weights(tmp_path / "one").items():
        torch.testing.assert_close(final_weights(tmp_path / "two")[name], weight, rtol=0, atol=ROUNDING)


def test_a_run_goes_on_with_other_numbers_of_processes(tmp_path: Path, alone: dict[str, Path]) -> None:
    """1 → 2, spread → 4, as copies → 1."""
    muon = {**SETTINGS, **OPTIMIZERS["muon"]}
    for step, processes, parallel in ((2, 1, "auto"), (4, 2, "fsdp"), (6, 4, "ddp")):
        codes, errors = finish(
            start(
                tmp_path,
                {**muon, "parallel": parallel},
                processes=processes,
                trouble={"kind": "stopped", "rank": 0, "step": step},
            )
        )
        assert codes == [75] * processes, errors
    codes, errors = finish(start(tmp_path, muon, processes=1))
    assert codes == [0]
    assert "not bit-exact because" in errors[0]
    assert "processes was 4, is 1; parallel was ddp, is single" in errors[0]
    for name, weight in final_weights(alone["muon"]).items():
        torch.testing.assert_close(final_weights(tmp_path)[name], weight, rtol=0, atol=ROUNDING)
    assert losses(tmp_path) == pytest.approx(losses(alone["muon"]), rel=1e-6)


def test_a_step_that_cannot_be_divided_ends_before_anything_is_written(tmp_path: Path) -> None:
    codes, errors = finish(start(tmp_path, SETTINGS, processes=3))
    assert codes == [78] * 3
    assert "8 rows of 16 tokens, which 3 processes cannot share evenly; start one of 1, 2, 4, 8" in errors[0]
    assert not (tmp_path / "plan.json").exists()
