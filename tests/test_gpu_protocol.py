import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu_checks import check_against_float64, check_resume
from benchmarks.gpu_speed import TINY_SIZES, find_host_waits
from core.device_manager import DeviceManager

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_protocol_of_a_gpu_runs_to_its_end_on_any_machine(tmp_path: Path) -> None:
    """All of its parts, tiny: what a lent GPU would be wasted on is found here."""
    command = [sys.executable, "benchmarks/gpu.py", "--tiny", "--device", "cpu", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["left_out"] == []
    assert set(results["sizes"]) == {"tiny", "small"}
    for row in (*results["sizes"].values(), *results["variants"].values()):
        assert row["tokens_per_second"] == pytest.approx(row["tokens_a_step"] / row["seconds_a_step"])
    errors = {row["path"]: row["gradient_relative_error"] for row in results["correctness"]}
    assert errors["fp32"] < 1e-5 < errors["fp16, loss scaled"] < errors["bf16"] < 0.03 < errors["fp8"] < 0.3
    assert errors["bf16, documents"] == errors["bf16, documents by a mask"]  # the CPU has no other way
    assert all(row["resumed_is_bit_exact"] and row["repeated_is_bit_exact"] for row in results["resume"])
    assert all(0 < row["bits_per_byte"] < 8 for row in results["recipes"])
    assert len(results["decoding"]) == 8  # two sizes, two ways, two numbers of rows
    page = (tmp_path / "results.md").read_text()
    assert all(
        f"## {title}" in page for title in ("Ceilings", "Sizes", "Variants", "Recipes", "Profile of two")
    )


def test_a_part_whose_time_is_over_is_left_out_and_said(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--tiny", "--device", "cpu", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--minutes", "0.0001", "--only", "ceilings", "sizes", "recipes"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Left out for lack of time: sizes." in (tmp_path / "results.md").read_text()


@pytest.mark.gpu
def test_on_a_gpu_no_step_waits_for_the_device() -> None:
    assert find_host_waits(TINY_SIZES["tiny"], DeviceManager("cuda")) == []


@pytest.mark.gpu
def test_on_a_gpu_each_path_computes_what_float64_does() -> None:
    limits = {"fp32": 1e-5, "fp16, loss scaled": 0.01, "fp8": 0.3}
    for row in check_against_float64(DeviceManager("cuda"), tiny=False):
        assert row["gradient_relative_error"] < limits.get(row["path"], 0.03), row
        assert row["without_mask"] in (None, row["path"] == "bf16, documents")


@pytest.mark.gpu
def test_on_a_gpu_a_deterministic_run_is_resumed_bit_for_bit() -> None:
    assert check_resume(DeviceManager("cuda"), compiled=False)["resumed_is_bit_exact"]
