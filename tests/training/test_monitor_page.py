from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.test_diagnosis import log, running
from training.monitor_page import monitor_page, numbers, shortest_names, state


def test_two_runs_are_told_apart_and_overlaid() -> None:
    logs = [replace(log(), directory=Path(f"/runs/{name}/pretrain")) for name in ("one", "two")]
    page = monitor_page(logs, width=100, height=None, colour=False)
    assert "a one/pretrain: finished, last line 1 s ago" in page
    assert "b two/pretrain: finished" in page
    assert "training loss, nats" in page and "validation loss, nats" in page
    assert max(map(len, page.splitlines())) <= 100


@pytest.mark.parametrize("width", [24, 40, 80, 100, 200, 500])
@pytest.mark.parametrize("height", [10, 24, 60])
def test_the_page_fits_its_terminal_where_that_can_be(width: int, height: int) -> None:
    lines = monitor_page([running()], width=width, height=height, colour=False).splitlines()
    assert max(map(len, lines)) <= width
    if width >= 90 and height >= 24:
        assert len(lines) <= height


def test_before_the_first_line_it_says_so() -> None:
    page = monitor_page(
        [replace(running(), curves={}, seconds_since_line=None)], width=80, height=24, colour=False
    )
    assert "no metrics yet" in page
    assert "step 0 of 1,000" in page


def test_a_state_says_who_runs_and_when_it_was_last_heard_of() -> None:
    assert state(running(seconds_since_line=75.0)) == "running (process 7 on host), last line 1 min 15 s ago"
    assert state(log(is_finished=False)) == "not running, as far as its lock says, last line 1 s ago"


def test_the_time_left_follows_from_the_pace() -> None:
    # 10 steps a second of the clock; 1,000 steps are done.
    halfway = replace(running(), planned_steps=2000)
    assert "step 1,000 of 2,000 (1 min 40 s left)" in numbers(halfway)
    assert "left" not in numbers(log())


def test_names_are_as_long_as_it_takes() -> None:
    paths = [Path("/a/x/pretrain"), Path("/b/x/pretrain")]
    assert shortest_names(paths) == ["a/x/pretrain", "b/x/pretrain"]
    assert shortest_names(paths[:1]) == ["x/pretrain"]


def test_numbers_that_do_not_fit_go_on_in_the_next_line_and_none_is_cut() -> None:
    for width in (50, 70, 90):
        head = monitor_page([running()], width=width, height=None, colour=False).partition("\n\n")[0]
        assert ", ".join(" ".join(line.split()).rstrip(",") for line in head.splitlines()[1:]) == numbers(
            running()
        )
