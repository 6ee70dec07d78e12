import time

import pytest

from core import progress as module
from core.progress import progress, timed_progress


def test_short_work_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), description="quick")) == [0, 1, 2]
    with timed_progress(expected_seconds=1.0, description="quick"):
        pass
    assert capfd.readouterr().err == ""


def test_long_work_shows_how_far_it_is_and_the_time_left(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    with progress(total=10, description="smelting", unit="ore") as bar:
        bar.update(5)
        bar.refresh()
    text = capfd.readouterr().err
    assert "smelting" in text
    assert "5/10" in text


def test_a_bar_moved_by_the_clock_never_passes_its_end(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(module, "LINE_SECONDS", 0.1)
    with timed_progress(expected_seconds=0.2, description="training"):
        time.sleep(0.6)
    text = capfd.readouterr().err
    assert text.splitlines()[-1].startswith("training: 100%")
    assert "\r" not in text


def test_an_exception_goes_through_the_bar() -> None:
    with pytest.raises(KeyError), timed_progress(expected_seconds=1.0, description="x"):
        raise KeyError
