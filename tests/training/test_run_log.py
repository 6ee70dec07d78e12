import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import DataError
from core.files import lock
from training.run_log import find_trainings, read_samples, read_training, smoothed
from training.session import row_loaders


def write(directory: Path, *lines: object, name: str = "metrics.jsonl") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (directory / name).write_text(text)
    return directory


def test_lines_that_are_half_written_or_foreign_are_passed_over(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"step": 1, "train/loss": 3.0},
        "[1, 2]",
        "nonsense",
        {"loss": 1},
        {"step": 2, "train/loss": 2.0},
    )
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "train/lo')
    log = read_training(tmp_path)
    assert log.curves == {"train/loss": [(1, 3.0), (2, 2.0)]}
    assert log.step == 2


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_file_cut_anywhere_is_read(tmp_path: Path, cut: int) -> None:
    write(tmp_path, {"step": 1, "train/loss": 3.0}, {"step": 2, "train/loss": 2.0, "word": "é"})
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(whole[:-cut])
    assert read_training(tmp_path).values("train/loss") in ([3.0, 2.0], [3.0], [])


def test_nan_and_infinity_are_counted_and_no_point(tmp_path: Path) -> None:
    write(
        tmp_path,
        '{"step": 1, "train/loss": NaN}',
        '{"step": 2, "train/loss": Infinity}',
        {"step": 3, "train/loss": 1},
    )
    log = read_training(tmp_path)
    assert log.curves["train/loss"] == [(3, 1.0)]
    assert log.num_not_finite == 2


def test_what_a_resumed_run_does_again_replaces_what_it_did(tmp_path: Path) -> None:
    steps = [(10, 5.0), (20, 4.0), (30, 9.0), (20, 4.1), (30, 3.0)]
    write(
        tmp_path,
        *(
            {"step": step, "train/loss": loss, "train/process_seconds": s}
            for (step, loss), s in zip(steps, [1, 2, 3, 1, 2], strict=True)
        ),
    )
    log = read_training(tmp_path)
    assert log.curves["train/loss"] == [(10, 5.0), (20, 4.1), (30, 3.0)]


def test_the_time_of_several_processes_adds_up(tmp_path: Path) -> None:
    write(
        tmp_path, *({"step": n, "train/process_seconds": s} for n, s in enumerate([5.0, 9.0, 2.0, 8.0, 1.5]))
    )
    assert read_training(tmp_path).elapsed_seconds == 9.0 + 8.0 + 1.5


def test_a_training_without_metrics_yet_is_read(tmp_path: Path) -> None:
    write(tmp_path, json.dumps({"total_steps": 7, "settings": {"seed": 1}}), name="plan.json")
    log = read_training(tmp_path)
    assert (log.step, log.total_steps, log.seconds_since_line, log.curves) == (0, 7, None, {})
    assert read_samples(tmp_path) == []


def test_a_real_training_is_told_whole(kit) -> None:
    trainer = kit.pretraining()
    out = Path(kit.root / "checkpoints")
    trainer.train(*row_loaders(kit.dataset["train"], kit.dataset["validation"], trainer.config))
    log = read_training(out)
    assert log.is_finished and log.holder is None
    assert (log.step, log.total_steps, log.stage) == (12, 12, "pretraining")
    assert log.vocab_size == kit.tokenizer.vocab_size
    assert log.settings["learning_rate"] == trainer.config.learning_rate
    assert log.machine["device"]
    sizes = [path.stat().st_size for path in (out / "step_12").rglob("*") if path.is_file()]
    assert 0.9 * sum(sizes) < log.checkpoint_bytes <= sum(sizes)
    assert log.last("train/epochs") == pytest.approx(12 * 4 / len(kit.dataset["train"]))
    assert 0 <= log.last("train/data_wait_share") < 1
    assert log.elapsed_seconds > 0
    assert len(read_samples(out)) == 4


def test_the_trainings_of_a_run_are_found_also_where_the_settings_placed_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    elsewhere = write(tmp_path / "elsewhere", {"step": 1})
    write(run / "finetune", {"step": 1})
    write(
        run,
        json.dumps({"training": {"output_dir": str(elsewhere)}, "instruction": {"output_dir": None}}),
        name="settings.json",
    )
    assert find_trainings(run) == [elsewhere, run / "finetune"]
    assert find_trainings(run / "finetune") == [run / "finetune"]


def test_a_run_that_only_collects_so_far_has_no_trainings(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("")
    assert find_trainings(tmp_path) == []


def test_a_path_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected the directory of a run or of a training, found nothing"):
        find_trainings(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"is no run and no training: it holds neither settings\.json nor metrics"
    ):
        find_trainings(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="found a file"):
        find_trainings(tmp_path / "file")


def test_the_lock_says_who_runs_until_the_process_is_killed(tmp_path: Path) -> None:
    directory = write(tmp_path / "run" / "pretrain", {"step": 1})
    code = (
        "import sys, time; from pathlib import Path; from core.files import lock\n"
        f"run = Path({str(tmp_path / 'run')!r})\n"
        "with lock(run / '.lock', held=run): print('held', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        assert f"process {process.pid} on " in str(read_training(directory).holder)
        process.kill()
    assert read_training(directory).holder is None
    with lock(tmp_path / "run" / ".lock", held=tmp_path):  # asking left nothing behind
        pass


def test_smoothing_gives_the_means_of_full_windows() -> None:
    assert smoothed([1, 2, 3, 4], 2) == [1.5, 2.5, 3.5]
    assert smoothed([1, 3], 5) == [2]
    assert smoothed([], 5) == []
