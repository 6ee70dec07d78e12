import os

import pytest
import torch

from core.device_manager import DeviceManager
from core.errors import ConfigError, DeviceError


def test_the_cpu_can_be_forced_and_describes_itself() -> None:
    info = DeviceManager("cpu").get_device_info()
    assert info["device"] == info["type"] == "cpu"
    assert info["memory_bytes"] > 1e8
    assert info["num_threads"] == torch.get_num_threads()


def test_the_choice_prefers_cuda_then_mps_then_cpu() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert DeviceManager().device.type == DeviceManager("auto").device.type == expected


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(DeviceError, match=r"'cuda:99' is not available; available here: .*cpu"):
        DeviceManager("cuda:99")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "CPU"])
def test_a_name_that_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda, cuda:1 or mps"):
        DeviceManager(name)


def test_precision_is_what_was_asked_for() -> None:
    manager = DeviceManager("cpu")
    assert manager.compute_dtype("fp32") == torch.float32
    assert manager.compute_dtype("bf16") == torch.bfloat16
    assert manager.compute_dtype("auto") in (torch.float32, torch.bfloat16)


def test_autocast_changes_products_and_nothing_else() -> None:
    manager = DeviceManager("cpu")
    a = torch.ones(4, 4)
    with manager.autocast(torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
    with manager.autocast(torch.float32):
        assert (a @ a).dtype == torch.float32


def test_peak_memory_is_that_of_this_process() -> None:
    assert 1e7 < DeviceManager("cpu").peak_memory_bytes() < 1e12


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch):
    """A manager of a GPU that is not there, by its compute capability."""

    def make(major: int, minor: int) -> DeviceManager:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device=None: (major, minor))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device=None: "Tesla T4")
        manager = DeviceManager("cpu")
        manager.device = torch.device("cuda", 0)
        return manager

    return make


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_gpus_without_bf16_compute_in_fp16(on_cuda, capability, expected: torch.dtype) -> None:
    assert on_cuda(*capability).compute_dtype("auto") == expected
    assert on_cuda(*capability).compute_dtype("fp16") == torch.float16


def test_fp16_is_refused_where_nothing_is_gained_by_it() -> None:
    with pytest.raises(
        ConfigError, match=r"mixed_precision: fp16 is for CUDA .* the device is cpu; set it to auto"
    ):
        DeviceManager("cpu").compute_dtype("fp16")


def test_fp8_is_refused_where_there_is_none(on_cuda) -> None:
    needed = r"mixed_precision: fp8 needs a CUDA device of compute capability 8\.9 or more .*"
    with pytest.raises(ConfigError, match=needed + r"but the device is cpu; set it to auto or bf16"):
        DeviceManager("cpu").compute_dtype("fp8")
    with pytest.raises(ConfigError, match=needed + r"but Tesla T4 has 7\.5; set it"):
        on_cuda(7, 5).compute_dtype("fp8")
    assert on_cuda(8, 9).compute_dtype("fp8") == on_cuda(9, 0).compute_dtype("fp8") == torch.bfloat16


def how_it_adds_up() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()


def test_numerics_are_set_on_cuda_and_set_back(on_cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    manager, before = on_cuda(9, 0), how_it_adds_up()
    with manager.numerics(deterministic=False, tf32=True):
        assert how_it_adds_up() == ("high", False)
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert how_it_adds_up() == before
    with pytest.raises(KeyError), manager.numerics(deterministic=True, tf32=False):
        assert how_it_adds_up() == ("highest", True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        raise KeyError
    assert how_it_adds_up() == before


def test_on_a_cpu_determinism_changes_nothing_and_says_so(caplog) -> None:
    caplog.set_level("INFO")
    before = how_it_adds_up()
    with DeviceManager("cpu").numerics(deterministic=True, tf32=True):
        assert how_it_adds_up() == before
    assert "deterministic: nothing to change, because on CPU runs are bit-exact anyway" in caplog.text
    caplog.clear()
    with DeviceManager("cpu").numerics(deterministic=False, tf32=True):
        assert caplog.text == ""
