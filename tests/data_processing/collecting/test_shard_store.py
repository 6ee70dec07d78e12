"""Named shards, on this machine and behind URLs."""

import errno
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core.errors import DiskError
from core.files import TEMPORARY_MARK
from data_processing.collecting.shard_store import ShardStore
from tests.data_processing.remote_stores import FailingFileSystem


def test_a_shard_is_there_after_it_was_written_and_gone_after_it_was_deleted(root: str):
    store = ShardStore(root)
    assert store.list() == []
    assert not store.exists("read/00001.items")
    store.write("read/00001.items", b"one")
    store.write("b", b"two")
    store.write("Z", b"")
    assert store.list() == ["Z", "b", "read/00001.items"]
    assert store.exists("read/00001.items")
    assert not store.exists("read")
    with store.open("read/00001.items") as file:
        assert (file.read(), file.seek(1), file.read()) == (b"one", 1, b"ne")
    assert store.num_bytes("b") == 3
    store.write("b", b"another, longer")
    with store.open("b") as file:
        assert file.read() == b"another, longer"
    store.delete("b")
    store.delete("b")
    assert not store.exists("b")
    assert store.list() == ["Z", "read/00001.items"]
    for look in (store.open, store.num_bytes):
        with pytest.raises(FileNotFoundError):
            look("b")


def test_only_a_shard_on_a_plain_path_has_a_path(root: str):
    path = ShardStore(root).local_path("a/b")
    assert path == (None if "://" in root else Path(root, "a/b"))


def test_a_store_can_be_sent_to_another_process(root: str):
    assert pickle.loads(pickle.dumps(ShardStore(root))) == ShardStore(root)


def test_what_another_process_wrote_is_seen(tmp_path: Path):
    store = ShardStore(f"file://{tmp_path}")
    assert not store.exists("a")
    code = f"from data_processing.collecting.shard_store import ShardStore; ShardStore({store.root!r}).write('a', b'1')"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert store.exists("a")
    assert store.list() == ["a"]


@pytest.mark.parametrize("name", ["../a", "/a", "a//b", "", "a/.hidden", "."])
def test_a_name_that_leads_elsewhere_is_refused(root: str, name: str):
    store = ShardStore(root)
    for operation in (store.exists, store.open, store.delete, lambda name: store.write(name, b"")):
        with pytest.raises(AssertionError, match="no name of a shard"):
            operation(name)


def test_of_many_writers_of_one_name_one_wins_and_every_reader_sees_a_whole_shard(root: str):
    store = ShardStore(root)
    shards = [bytes([letter]) * 200_000 for letter in b"abcdefgh"]
    store.write("x", shards[0])
    torn = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with store.open("x") as file:
                if (data := file.read()) not in shards:
                    torn.append(data[:1] + data[-1:])

    writers = [threading.Thread(target=store.write, args=("x", data)) for data in shards * 4]
    reader = threading.Thread(target=read)
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert torn == []
    assert store.list() == ["x"]


def test_a_write_that_fails_half_way_leaves_the_shard_as_it_was(errors: list[Exception]):
    store = ShardStore("failing://shards")
    store.write("a", b"one")
    # The object has arrived under its temporary name; giving it its own fails.
    errors += [PermissionError(errno.EACCES, "no")]
    with pytest.raises(
        DiskError, match=r"failing://shards/a: cannot be written \(PermissionError.*data.cache_dir"
    ):
        store.write("a", b"two")
    with store.open("a") as file:
        assert file.read() == b"one"
    assert store.list() == ["a"]
    assert not any(TEMPORARY_MARK in name for name in FailingFileSystem.store)


def test_failures_that_pass_do_not_keep_a_shard_from_being_written(errors: list[Exception]):
    store = ShardStore("failing://shards")
    errors += [ConnectionResetError("reset"), TimeoutError("slow")]
    store.write("a", b"one")
    assert errors == []
    with store.open("a") as file:
        assert file.read() == b"one"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_place_that_cannot_be_written_to_is_an_error_with_its_name(tmp_path: Path, scheme: str):
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=r"file.*: .*(exists|Not a directory)"):
        ShardStore(f"{scheme}{tmp_path}/file").write("a", b"1")
