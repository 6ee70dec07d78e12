"""Real processes, really killed: whatever happens, the same command ends with the same bits."""

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.line_kit import command, environment, run_script, weights, write_inputs, write_settings

pytestmark = [pytest.mark.fault, pytest.mark.slow]

NUM_KILLS = int(os.environ.get("BLOOMERY_KILLS", "6"))
"""More by hand: BLOOMERY_KILLS=500 pytest tests/faults."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str], float]]:
    """Inputs, the weights of an uninterrupted run, and how long it took."""
    root = tmp_path_factory.mktemp("reference")
    write_inputs(root)
    started = time.monotonic()
    done = run_script("--config-dir", write_settings(root), cwd=root)
    assert done.returncode == 0, done.stderr
    yield root, weights(root / "run"), time.monotonic() - started


def start(root: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command("--config-dir", root / "settings.json", *arguments),
        cwd=root,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finish(root: Path, place: str, *arguments: str) -> dict[str, str]:
    """The weights that the same command ends with; `place` is `run.dir=…`."""
    done = run_script("--config-dir", root / "settings.json", place, *arguments, cwd=root)
    assert done.returncode == 0, done.stderr
    return weights(root / place.removeprefix("run.dir="))


def test_killed_at_random_moments_it_ends_with_the_same_bits(
    reference: tuple[Path, dict[str, str], float],
) -> None:
    root, expected, seconds = reference
    generator = random.Random(20)
    where = "run.dir=killed"
    stages_reached = set()
    for kill in range(NUM_KILLS):
        process = start(root, where)
        # The first kills come early, in the data stages; later ones anywhere.
        time.sleep(generator.uniform(0.3, 1.0) * seconds * min(1.0, (kill + 1) / NUM_KILLS))
        process.kill()
        process.wait()
        stages_reached |= {p.parent.name for p in (root / "killed").glob("*/MANIFEST.json")}
    assert finish(root, where) == expected
    assert stages_reached, "every kill came before the first stage was done; the test shows nothing"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_while_training_saves_exits_75_and_is_resumable(
    reference: tuple[Path, dict[str, str], float], number: signal.Signals
) -> None:
    root, expected, _ = reference
    run = root / number.name
    process = start(root, f"run.dir={number.name}")
    while not list(run.glob("pretrain/metrics.jsonl")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=60) == 75
    assert finish(root, f"run.dir={number.name}") == expected


def test_a_signal_before_training_exits_75_and_leaves_no_half_artifact(
    reference: tuple[Path, dict[str, str], float],
) -> None:
    root, expected, _ = reference
    run = root / "early"
    process = start(root, "run.dir=early")
    while not run.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    assert finish(root, "run.dir=early") == expected


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_is_used(
    reference: tuple[Path, dict[str, str], float], damage: str
) -> None:
    root, expected, _ = reference
    where = f"run.dir=damaged-{damage}"
    run = root / f"damaged-{damage}"
    process = start(root, where)
    while not (run / "pretrain" / "step_15" / "MANIFEST.json").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    steps = sorted((run / "pretrain").glob("step_*"), key=lambda p: int(p.name.split("_")[1]))
    newest = steps[-1] / "trainer" / "optimizer.safetensors"
    data = bytearray(newest.read_bytes())
    newest.write_bytes(
        data[: len(data) // 2] if damage == "cut" else data[:-7] + bytes([data[-7] ^ 1]) + data[-6:]
    )
    assert finish(root, where) == expected
    assert (run / "pretrain" / f"{steps[-1].name}.corrupt-1").is_dir()


def test_a_second_process_in_the_same_run_is_refused(reference: tuple[Path, dict[str, str], float]) -> None:
    root, _, _ = reference
    process = start(root, "run.dir=shared")
    while not (root / "shared" / "settings.json").exists():
        time.sleep(0.01)
    second = run_script("--config-dir", root / "settings.json", "run.dir=shared", cwd=root)
    process.kill()
    process.wait()
    assert second.returncode == 73
    assert f"error[E030]: shared is in use by process {process.pid} on " in second.stderr


@pytest.mark.parametrize("limit_bytes", [3_000, 20_000, 60_000, 150_000])
def test_a_full_disk_ends_in_one_line_and_the_run_goes_on_when_there_is_room(
    reference: tuple[Path, dict[str, str], float], limit_bytes: int
) -> None:
    root, expected, _ = reference
    # Otherwise the first that finds no room is always the model that tells languages.
    where = f"run.dir=full-{limit_bytes}", "data.languages.detect=false"

    def no_larger_files() -> None:
        # A write past the limit fails with EFBIG, as a full disk fails with ENOSPC.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    done = run_script("--config-dir", root / "settings.json", *where, cwd=root, preexec_fn=no_larger_files)
    assert done.returncode == 74, done.stderr
    lines = [line for line in done.stderr.splitlines() if "error[" in line]
    assert len(lines) == 1
    assert "the disk is full" in lines[0]
    assert "Traceback" not in done.stderr
    assert finish(root, *where) == expected
