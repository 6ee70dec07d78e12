"""A run directory that may not be written to: said before anything is read or computed, by a real process."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.line_kit import command, environment, write_inputs, write_settings

pytestmark = [pytest.mark.fault, pytest.mark.slow]

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1
"""Numbers of Linux (linux/prctl.h, linux/capability.h)."""


def obey_permissions() -> None:
    """Root may write everywhere; without this capability it may not."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


@pytest.fixture
def bound() -> Callable[[], None] | None:
    """What a child does first, so that permissions bind it; None where they do anyway."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    try:
        subprocess.run([sys.executable, "-c", ""], preexec_fn=obey_permissions, check=True)
    except (subprocess.SubprocessError, AttributeError) as error:
        pytest.skip(f"root may write everywhere, and cannot be kept from it here ({error})")
    return obey_permissions


@pytest.mark.parametrize("setting", ["run.dir", "training.output_dir"])
def test_a_read_only_place_ends_the_run_before_it_begins(
    tmp_path: Path, bound: Callable[[], None] | None, setting: str
) -> None:
    write_inputs(tmp_path)
    settings = write_settings(tmp_path)
    place = tmp_path / "read only"
    place.mkdir()
    place.chmod(0o555)
    done = subprocess.run(
        command("--config-dir", settings, f"{setting}={place / 'new'}"),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        preexec_fn=bound,
        check=False,
    )
    assert done.returncode == 73, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error[" in line]
    assert (
        line.startswith("error[E036]") and "read only" in line and "not writable (Permission denied)" in line
    )
    assert "Traceback" not in done.stderr
    assert not list(place.iterdir())
    assert not list((tmp_path / "run").glob("corpus*")), "data were collected for what could not be saved"
