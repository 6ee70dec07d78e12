import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import MissingDependencyError
from tests.training.test_diagnosis import log, running
from training.events import record_event
from training.run_log import TrainingLog, read_training
from training.run_plots import COLOURS, DOTS_PER_INCH, ROW_INCHES, WIDTH_INCHES, picture, write_plots

pytest.importorskip("matplotlib")


def pixels(png: bytes):
    """Width, height, and how many pixels have each colour."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    found: dict[str, int] = {}
    for count, (red, green, blue) in image.getcolors(2**24):
        found[f"#{red:02x}{green:02x}{blue:02x}"] = count
    return image.width, image.height, found


def test_a_picture_has_a_panel_for_each_kind_of_curve_that_there_is() -> None:
    one = TrainingLog(Path("/runs/one/pretrain"), curves={"train/loss": [(1, 4.0), (100, 2.0)]})
    six = log()
    width, height, _ = pixels(picture([one]))
    assert (width, height) == (WIDTH_INCHES * DOTS_PER_INCH, (ROW_INCHES + 0.5) * DOTS_PER_INCH)
    assert pixels(picture([six]))[1] > height


def test_of_several_runs_each_has_its_colour() -> None:
    logs = [replace(log(), directory=Path(f"/runs/{name}/pretrain")) for name in ("one", "two", "three")]
    _, _, found = pixels(picture([*logs[:2], replace(logs[2], curves={})]))
    assert found[COLOURS[0]] + found[COLOURS[1]] > 100
    assert COLOURS[2] not in found


def test_a_single_evaluation_is_seen() -> None:
    only = TrainingLog(Path("/runs/one/pretrain"), curves={"validation/loss": [(100, 4.0)]})
    assert pixels(picture([only]))[2][COLOURS[0]] > 5


def test_where_a_run_went_back_is_marked(tmp_path: Path) -> None:
    line = {"step": 100, "train/loss": 3.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    before = pixels(picture([read_training(tmp_path)]))[2].get(COLOURS[1], 0)
    record_event(tmp_path, step=50, kind="rollback", to_step=40, reason="spike", skipped_steps=[(40, 10)])
    record_event(tmp_path, step=60, kind="data_changed")
    after = read_training(tmp_path)
    assert list(after.rollbacks) == [50]
    assert pixels(picture([after]))[2].get(COLOURS[1], 0) > before


def test_a_run_without_metrics_is_no_error() -> None:
    assert picture([replace(running(), curves={})]).startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"matplotlib: pip install -e '\.\[plots\]'"):
        write_plots([log()], tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
