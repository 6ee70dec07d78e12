import signal
import subprocess
import sys

import pytest

from core.errors import DataError, Preempted
from pipeline.command import run_command
from tests.line_kit import environment


@pytest.fixture(autouse=True)
def _own_handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def fail(error: BaseException):
    def body() -> int:
        raise error

    return body


def test_the_exit_code_is_that_of_the_body() -> None:
    assert run_command(lambda: 3) == 3


def test_a_users_mistake_is_one_line_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(fail(DataError("a.txt:3: found x, expected y"))) == 65
    assert capsys.readouterr().err == "error[E020]: a.txt:3: found x, expected y\n"


def test_our_own_mistake_is_called_a_bug_and_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(fail(KeyError("oops"))) == 70
    text = capsys.readouterr().err
    assert text.startswith("error[E099]: internal error, KeyError: 'oops'; this is a bug")
    assert "Traceback" not in text
    assert run_command(fail(KeyError("oops")), debug=True) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_resumable_work_with_75(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> int:
        signal.raise_signal(number)
        return 0

    assert run_command(body, resumable=True) == Preempted.exit_code == 75
    assert f"{number.name}: stopped; what was finished is kept" in capsys.readouterr().err


@pytest.mark.parametrize("made_of_it", [RuntimeError, DataError])
def test_a_signal_that_a_library_makes_an_error_of_its_own_is_still_a_signal(
    made_of_it: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:
            raise made_of_it("import failed") from error
        return 0

    assert run_command(body, resumable=True) == 75
    assert "SIGTERM: stopped" in capsys.readouterr().err
    assert run_command(fail(DataError("bad data")), resumable=True) == 65


def test_a_signal_while_python_shuts_down_changes_neither_the_exit_code_nor_what_is_printed() -> None:
    program = """
import atexit, signal, sys
from pipeline.command import run_command
atexit.register(signal.raise_signal, signal.SIGTERM)
sys.exit(run_command(lambda: 3, resumable=True))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (3, "")


def test_ctrl_c_ends_other_work_with_130() -> None:
    assert run_command(fail(KeyboardInterrupt())) == 130
