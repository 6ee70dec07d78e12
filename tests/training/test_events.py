"""`events.jsonl` is a whole object a line, whatever a kill or a full disk leaves."""

import json
import logging
from pathlib import Path
from typing import IO

import pytest

from training import events
from training.events import record_event


def test_an_event_is_a_line_behind_those_before_it(tmp_path: Path) -> None:
    record_event(tmp_path, step=4, kind="data_changed", was="a", now="b")
    record_event(tmp_path, step=9, kind="data_damaged", detail="Möller\n.arrow")
    one, two = map(json.loads, (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines())
    assert one.pop("time") <= two.pop("time")
    assert one == {"step": 4, "kind": "data_changed", "was": "a", "now": "b"}
    assert two == {"step": 9, "kind": "data_damaged", "detail": "Möller\n.arrow"}


def test_half_a_line_that_a_kill_left_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"step": 1, "ki')
    record_event(tmp_path, step=2, kind="data_changed")
    record_event(tmp_path, step=3, kind="data_changed")
    half, *whole = path.read_text().splitlines()
    assert half == '{"step": 1, "ki'
    assert [json.loads(line)["step"] for line in whole] == [2, 3]


def test_a_full_disk_is_said_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")

    def full(_path: Path) -> IO[str]:
        return Path("/dev/full").open("a", encoding="utf-8")

    monkeypatch.setattr(events, "open_append", full)
    with caplog.at_level(logging.WARNING):
        record_event(tmp_path, step=2, kind="data_changed")
    assert "the event data_changed is not written (No space left on device)" in caplog.text
