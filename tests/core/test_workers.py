"""Work in several processes: in order, with errors as they were raised, and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import DataError, WorkerDiedError
from core.workers import TASKS_AHEAD, map_here, process_mapper

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def square_slowly(number: int) -> int:
    time.sleep(0.05 if number % 2 else 0.0)
    return number * number


def process_of(_: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise DataError("number 3 is bad")
    return number


def print_and_return(number: int) -> int:
    print("noise")
    return number


def wait_for_others(task: tuple[Path, int]) -> bool:
    """Leave a mark; the first task says whether the others left theirs while it waited."""
    directory, number = task
    (directory / str(number)).touch()
    deadline = time.monotonic() + 20
    while number == 0 and time.monotonic() < deadline:
        if len(list(directory.iterdir())) == 7:
            return True
        time.sleep(0.01)
    return number > 0


def die(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


class UnsendableError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def raise_unsendable(number: int) -> int:
    raise UnsendableError(number, 2)


def test_what_cannot_be_sent_is_done_here() -> None:
    class Local:
        def __call__(self, number: int) -> int:
            return os.getpid()

    with process_mapper(2) as mapper:
        assert set(mapper(Local(), range(4))) == {os.getpid()}


def test_results_come_in_the_order_of_the_tasks() -> None:
    with process_mapper(3) as mapper:
        assert list(mapper(square_slowly, range(9))) == [number * number for number in range(9)]
        assert list(mapper(square_slowly, range(3))) == [0, 1, 4]


def test_the_work_is_done_in_other_processes_as_many_as_asked_for() -> None:
    with process_mapper(2) as mapper:
        processes = set(mapper(process_of, range(12)))
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_one_worker_and_one_task_need_no_process() -> None:
    with process_mapper(1) as mapper:
        assert mapper is map_here
    with process_mapper(4) as mapper:
        assert list(mapper(process_of, [0])) == [os.getpid()]
        assert list(mapper(process_of, [])) == []


def test_tasks_are_not_taken_far_ahead_of_results() -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with process_mapper(2) as mapper:
        results = mapper(square_slowly, tasks())
        next(results)
        assert len(taken) <= 2 * TASKS_AHEAD


def test_a_long_task_does_not_keep_the_other_worker_from_six_behind_it(tmp_path: Path) -> None:
    with process_mapper(2) as mapper:
        assert all(mapper(wait_for_others, [(tmp_path, number) for number in range(7)]))


def test_an_error_arrives_as_it_was_raised_with_its_place() -> None:
    with process_mapper(2) as mapper:
        results = mapper(fail_at_three, range(6))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(DataError, match="number 3 is bad") as caught:
            next(results)
    assert "fail_at_three" in caught.value.__notes__[0]


def test_an_error_that_cannot_be_sent_arrives_by_its_words() -> None:
    with process_mapper(2) as mapper, pytest.raises(RuntimeError, match="UnsendableError: 0 and 2"):
        list(mapper(raise_unsendable, range(3)))


def test_what_a_task_prints_does_not_get_among_the_results() -> None:
    with process_mapper(2) as mapper:
        assert list(mapper(print_and_return, range(4))) == [0, 1, 2, 3]


def test_a_worker_that_dies_is_named_and_not_waited_for() -> None:
    with process_mapper(2) as mapper, pytest.raises(WorkerDiedError, match="signal SIGKILL"):
        list(mapper(die, range(5)))


def test_a_script_without_a_guard_is_not_run_again_by_its_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('started')\n"
        "from core.workers import process_mapper\n"
        "def own(number): return -number\n"
        "with process_mapper(2) as mapper:\n"
        "    print(list(mapper(abs, [-1, -2, -3])), list(mapper(own, [1, 2, 3])))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert (done.stdout, done.returncode) == ("started\n[1, 2, 3] [-1, -2, -3]\n", 0), done.stderr


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\n"
        "from core.workers import process_mapper\n"
        "from tests.core.test_workers import process_of\n"
        "with process_mapper(2) as mapper:\n"
        "    print(*set(mapper(process_of, range(8))), flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert parent.stdout is not None
    with parent.stdout:
        workers = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(_is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 2
    assert not any(map(_is_alive, workers))


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def fails_after_two() -> Iterator[int]:
    yield 1
    yield 2
    raise KeyboardInterrupt


def test_a_pool_that_is_left_while_workers_start_ends() -> None:
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt), process_mapper(2) as mapper:
            list(mapper(square_slowly, fails_after_two()))


def test_workers_load_no_module_from_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the corpus was executed')")
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "from core.workers import process_mapper\n"
        "from tests.core.test_workers import square_slowly\n"
        "with process_mapper(2) as mapper: print(list(mapper(square_slowly, range(3))))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert done.stdout == "[0, 1, 4]\n", done.stderr
