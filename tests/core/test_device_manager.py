import pytest
import torch

from core.device_manager import DeviceManager
from core.errors import DeviceError


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
