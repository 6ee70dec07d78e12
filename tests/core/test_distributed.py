import pytest

from core.device_manager import DeviceManager
from core.distributed import ALONE, TIMEOUT_VARIABLE, explain_lost_peers, joined, world
from core.errors import ConfigError, DeviceError, PeerLostError


def test_a_single_process_is_a_world_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as found:
        assert found == world() == ALONE
        assert found.is_main
        assert found.sum(1.5, 2) == [1.5, 2]
        assert found.from_main(lambda: {"a": 1}) == {"a": 1}
        found.wait()


def test_half_an_environment_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    message = "WORLD_SIZE is 2, but LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set; start .* torchrun"
    with pytest.raises(ConfigError, match=message), joined():
        pass


@pytest.mark.parametrize("text", ["soon", "0", "-1"])
def test_a_time_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for name, value in (
        ("WORLD_SIZE", "2"),
        ("RANK", "0"),
        ("LOCAL_RANK", "0"),
        ("MASTER_ADDR", "localhost"),
        ("MASTER_PORT", "1"),
        (TIMEOUT_VARIABLE, text),
    ):
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(ConfigError, match=f"{TIMEOUT_VARIABLE}='{text}': expected a number of seconds"),
        joined(),
    ):
        pass


def test_only_errors_about_other_processes_are_called_so() -> None:
    with pytest.raises(PeerLostError, match="another process of this run ended"), explain_lost_peers():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")
    with pytest.raises(RuntimeError, match="mat1 and mat2"), explain_lost_peers():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_more_processes_than_devices_say_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(DeviceManager("cuda").device) == "cuda:1"
    assert str(DeviceManager().device) == "cuda:1"
    assert str(DeviceManager("cpu").device) == "cpu"
    monkeypatch.setenv("LOCAL_RANK", "3")
    message = (
        r"4 processes .* but it has 2 devices \(cuda:0, cuda:1\); start torchrun with --nproc_per_node=2"
    )
    with pytest.raises(DeviceError, match=message):
        DeviceManager()
