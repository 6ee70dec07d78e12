import datetime
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore

from core.device_manager import DeviceManager
from core.distributed import ALONE, TIMEOUT_VARIABLE, explain_lost_peers, joined, meet, world
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


def test_processes_that_start_again_beside_one_store_do_not_meet_those_of_the_start_before() -> None:
    store = HashStore()
    limit = datetime.timedelta(seconds=10)
    names = []
    for first in ((1, 2, 0), (0, 1, 2), (2, 0, 1)):
        with ThreadPoolExecutor(3) as pool:
            waiting = []
            for rank in first:
                waiting.append(pool.submit(meet, store, rank, 3, limit))
                time.sleep(
                    0.1
                )  # others first or the main process first; what is there of the last start is found
            [name] = {one.result() for one in waiting}
        names.append(name)
    assert len(set(names)) == 3


def test_one_who_does_not_come_is_waited_for_no_longer_than_the_limit() -> None:
    store = HashStore()
    limit = datetime.timedelta(seconds=0.2)
    with pytest.raises(PeerLostError), explain_lost_peers():
        meet(store, 0, 2, limit)
    with pytest.raises(PeerLostError), explain_lost_peers():
        meet(store, 1, 2, limit)
