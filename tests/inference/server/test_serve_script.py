"""scripts/serve.py: its flags, its key, and what it needs; as a process it is tried in tests/faults."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from core.errors import (
    AddressError,
    BloomeryError,
    ConfigError,
    DataError,
    MissingDependencyError,
    UsageError,
)

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "serve.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("flags", "error", "reason"),
    [
        (["--max-running", "0"], UsageError, "--max-running: expected a whole number, 1 or more, found '0'"),
        (
            ["--max-waiting", "-1"],
            UsageError,
            "--max-waiting: expected a whole number, 0 or more, found '-1'",
        ),
        (
            ["--drain-seconds", "-1"],
            UsageError,
            "--drain-seconds: expected a whole number, 0 or more, found '-1'",
        ),
        (["--port", "65536"], UsageError, "--port: expected a whole number, 0 to 65535, found '65536'"),
        (["--port", "http"], UsageError, "^--port: expected a whole number, 0 to 65535, found 'http'"),
        (["--cert", "c.pem"], UsageError, "--cert and --key go together"),
        (["--cors", "*"], UsageError, r"--cors \*: expected an origin such as https://example.org"),
        (["--cors", "https://a.example/"], UsageError, "--cors https://a.example/: expected an origin"),
        (["--cors", "https://"], UsageError, "--cors https://: expected an origin"),
        (["--cors", "https://a b.example"], UsageError, "--cors https://a b.example: expected an origin"),
        (["--cors", "https://me@a.example"], UsageError, "--cors https://me@a.example: expected an origin"),
        (["--cors", "https://a.example:x"], UsageError, "--cors https://a.example:x: expected an origin"),
        *(
            (
                ["--allow-host", name],
                UsageError,
                rf"--allow-host {re.escape(name or repr(name))}: expected a name",
            )
            for name in ("a.example:80", "https://a.example", "*", "a..b", "", "::1", "a.example/x")
        ),
        (["--name", " "], UsageError, "--name: is empty"),
        (["--host", ""], AddressError, "--host '': no such address"),
        (["--feedback", "."], UsageError, r"--feedback \.: is a directory; expected a file"),
        (["--feedback", "no/x.jsonl"], UsageError, "--feedback no/x.jsonl: there is no directory .*no"),
        (["--temperature", "-1"], ConfigError, "^--temperature: expected 0 or more, found -1"),
        (["--api-key-file", "none.txt"], DataError, "--api-key-file none.txt: cannot be read"),
        (["nowhere", "--port", "0"], DataError, "nowhere: expected the directory of a run or of a model"),
        (["--port", "0"], DataError, "no run was named and .*runs holds none with a model"),
    ],
    ids=str,
)
def test_a_mistake_on_the_command_line_is_named(
    script: ModuleType,
    flags: list[str],
    error: type[BloomeryError],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BLOOMERY_API_KEY", raising=False)
    with pytest.raises(error, match=reason):
        script.main([*flags, "--device", "cpu"])


@pytest.mark.parametrize("text", ["", "\n", "two words\n", "schlüssel\n", "\x00\n"])
def test_a_key_that_no_header_can_hold_is_refused(script: ModuleType, text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text, encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"--api-key-file .*key: expected a key of printable ASCII characters"
    ):
        script.api_key(tmp_path / "key")


def test_the_key_is_the_first_line_of_the_file_or_else_of_the_environment(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BLOOMERY_API_KEY", raising=False)
    assert script.api_key(None) is None
    monkeypatch.setenv("BLOOMERY_API_KEY", "from-environment")
    assert script.api_key(None) == "from-environment"
    (tmp_path / "key").write_text(" from-file \r\nmore\n")
    assert script.api_key(tmp_path / "key") == "from-file"


def test_without_uvicorn_it_says_what_to_install() -> None:
    code = (
        "import runpy, sys; sys.modules['uvicorn'] = None; "
        f"sys.argv = ['serve.py', 'nowhere', '--port', '0']; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=SCRIPT.parents[1],
    )
    assert result.returncode == MissingDependencyError.exit_code == 78
    assert result.stderr == ("error[E014]: serving needs the package uvicorn: pip install -e '.[serve]'\n")
