import time
from pathlib import Path

import pytest
import torch

from core.device_manager import DeviceManager
from core.errors import DiskError
from pipeline import environment
from pipeline.doctor_page import environment_page
from pipeline.environment import CHECKS, Check, check_environment, write_speed

CPU = DeviceManager("cpu")


@pytest.fixture(autouse=True)
def without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes seconds; what it says is made up here."""
    monkeypatch.setattr(environment, "compile_problem", lambda _device: None)


def test_every_point_of_this_machine_is_found(tmp_path: Path) -> None:
    checks = check_environment(CPU, tmp_path / "runs" / "not" / "there")
    assert len(checks) == len(CHECKS)
    assert all(check.found for check in checks)
    page = environment_page(checks)
    assert str(tmp_path) in page
    assert max(map(len, page.splitlines())) <= 100 + len(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def remedy(name: str, tmp_path: Path) -> str | None:
    (found,) = [check for check in check_environment(CPU, tmp_path) if check.name == name]
    return found.remedy


@pytest.mark.parametrize(
    ("name", "module", "attribute", "value", "words"),
    [
        ("torch", torch, "__version__", "2.4.1+cpu", "tested with 2.11 to 2.14"),
        ("threads", environment, "usable_cores", lambda: 1, "OMP_NUM_THREADS=1"),
        ("threads", environment, "usable_cores", lambda: 64, "most cores are idle"),
        (
            "other work",
            environment.os,
            "getloadavg",
            lambda: (1000.0, 0.0, 0.0),
            "a time budget buys fewer steps",
        ),
        ("torch.compile", environment, "compile_problem", lambda _d: "no g++", "install a C++ compiler"),
        ("memory", environment, "_available_memory", lambda: 10**8, "end what else takes memory"),
        ("disk", environment, "write_speed", lambda *_a, **_k: 1e6, "save less often"),
        ("device", environment, "_has_nvidia_card", lambda: True, "does not see the NVIDIA card"),
    ],
)
def test_a_fault_of_the_machine_is_seen_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, module, attribute: str, value, words: str
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(module, attribute, value)
    found = remedy(name, tmp_path)
    assert found is not None and words in found


def test_a_disk_that_cannot_be_written_is_a_finding_and_no_crash(tmp_path: Path) -> None:
    def fail(*_arguments: object, **_settings: object) -> float:
        raise DiskError("/x: the disk is full (0 MB free)")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "write_speed", fail)
        assert remedy("disk", tmp_path) == "name another run.dir"


def test_the_speed_of_the_disk_is_that_of_a_file_that_was_written(tmp_path: Path) -> None:
    started = time.perf_counter()
    speed = write_speed(tmp_path, num_bytes=4 * 2**20)
    assert speed >= 4 * 2**20 / (time.perf_counter() - started)
    assert list(tmp_path.iterdir()) == []


def test_faults_are_marked_and_their_remedies_stand_below() -> None:
    page = environment_page([Check("good", "fine"), Check("bad", "broken", "mend it")])
    assert "OK  good          fine" in page
    assert "!!  bad           broken" in page
    assert "→ mend it" in page
