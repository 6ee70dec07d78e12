import re

import pytest
import torch

from core import progress as progress_module
from training import status_line
from training.status_line import WIDTH, ShowProgress, fit
from training.step_report import Numbers, StepReport
from training.trainer import Evaluation
from training.utilization import Utilization, utilization_of


class TerminalSize:
    def __init__(self, columns: int) -> None:
        self.columns = columns


def report(step: int, loss: float = 4.123) -> StepReport:
    return StepReport(step, 1.2e-3, 1024, 1024, 0.1, Numbers(torch.tensor([loss, 1.0])))


def lines_of(kit, capfd, monkeypatch, *, bits_per_byte: float | None = 1.628) -> list[str]:
    monkeypatch.setattr(progress_module, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    trainer = kit.trainer(total_steps=850)
    bar = ShowProgress(trainer, "pretraining", Utilization("matmul", "x", 10**6, 1e11))
    bar.show(Evaluation(4.445, bits_per_byte, 10))
    for step in range(1, 851):
        bar(trainer, report(step))
    bar.close()
    return capfd.readouterr().err.splitlines()


def test_the_line_says_everything_in_a_hundred_columns(kit, capfd, monkeypatch) -> None:
    line = lines_of(kit, capfd, monkeypatch)[-1]
    assert len(line) <= WIDTH
    numbers = r"loss 4\.12 val 4\.45 bpb 1\.628 10k tok/s lr 1e-3 matmul 10% \d+\.\dGB"
    assert re.fullmatch(rf"pretraining 850/850 \[00:00 left, {numbers}\]", line)


def test_without_a_terminal_each_state_is_a_line_of_its_own(kit, capfd, monkeypatch) -> None:
    lines = lines_of(kit, capfd, monkeypatch)
    assert len(lines) == len(set(lines)) > 10
    assert not any("\r" in line or "\x1b" in line for line in lines)


def test_what_was_not_measured_is_not_shown(kit, capfd, monkeypatch) -> None:
    assert "bpb" not in lines_of(kit, capfd, monkeypatch, bits_per_byte=None)[-1]


@pytest.mark.parametrize("columns", [30, 50, 60, 80, 99, 100, 200])
def test_on_a_narrow_terminal_the_last_things_are_left_out(
    kit, capfd, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(status_line.shutil, "get_terminal_size", lambda: TerminalSize(columns))
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _file: (columns, 24))
    states = [
        text.strip()
        for text in lines_of(kit, capfd, monkeypatch)  # states are parted by carriage returns
        if text.strip()
    ]
    assert max(map(len, states)) <= min(columns, WIDTH)
    assert ("loss 4.12" in states[-1]) == (columns >= 50)
    assert ("matmul" in states[-1]) == (columns >= 99)
    assert ("GB" in states[-1]) == (columns >= 100)


def test_fields_are_left_out_from_the_end() -> None:
    assert fit(["loss 1", "val 2", "x"], 12) == "loss 1 val 2"
    assert fit(["loss 1", "val 2", "x"], 11) == "loss 1"
    assert fit(["loss 1"], 3) == ""


def test_a_known_peak_gives_mfu_and_an_unknown_one_is_called_something_else(kit, monkeypatch) -> None:
    import torch

    trainer = kit.trainer()
    trainer.device_manager.measured_flops = lambda _dtype: 1e9
    assert utilization_of(trainer).label == "matmul"
    known = trainer.device_manager.get_device_info() | {"peak_flops": 989.5e12}
    trainer.device_manager.get_device_info = lambda: known
    assert utilization_of(trainer).label == "matmul"  # the peak is bfloat16's, the products are float32
    trainer.compute_dtype = torch.bfloat16
    found = utilization_of(trainer)
    assert (found.label, found.flops_per_second) == ("MFU", 989.5e12)
    # PaLM's count by hand: 6 x (blocks, final norm and head) + 12 x layers x width x context.
    numbers = {name: p.numel() for name, p in trainer.model.named_parameters()}
    by_hand = 6 * sum(numbers.values()) + 12 * 2 * 32 * 32
    assert found.of(1000.0) == pytest.approx(1000 * by_hand / 989.5e12)
