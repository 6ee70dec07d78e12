"""A collection on a disk that is really full: one line, nothing half-written, and it goes on when there is room."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data_processing.collecting.shard_files import read_bytes
from data_processing.collecting.shard_store import ShardStore
from tests.line_kit import environment
from tests.small_texts import make_documents

pytestmark = [pytest.mark.fault, pytest.mark.slow]

CHILD = Path(__file__).with_name("collect_child.py")
PAGE_BYTES = 4096
"""What a file takes on a tmpfs is a multiple of this."""

# A disk of its own, which nobody else sees and which is gone with the process: $1 its bytes, $2 the directory that
# becomes it, $3 where its content is kept; then the command, carried out on the full disk and again on a large one.
ON_A_DISK = """
bytes=$1; disk=$2; kept=$3; shift 3
mount -t tmpfs -o size="$bytes" none "$disk" || exit 99
"$@"; echo "ended with $?"
cp -r "$disk" "$kept/full"
mount -o remount,size=100m "$disk" || exit 99
"$@"; echo "ended with $?"
cp -r "$disk" "$kept/large"
"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    for number, text in enumerate(make_documents(120, seed=12)):
        (root / f"{number:03}.txt").write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def undisturbed(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "corpus"
    assert run([*command(raw, out)]).returncode == 0
    return out


def command(raw: Path, out: Path) -> list[str]:
    return [sys.executable, str(CHILD), str(raw), str(out)]


def run(
    arguments: list[str], preexec_fn: Callable[[], None] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=600, env=environment(), preexec_fn=preexec_fn
    )


def results(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()}


def assert_nothing_is_half_written(out: Path) -> None:
    assert results(out) == {}
    store = ShardStore(str(out / ".cache" / "shards"))
    for name in store.list():
        read_bytes(store, name)  # compares with the digest behind it
    left = [path.name for path in (out / ".cache").rglob("*") if path.is_file()]
    assert len(left) == len(store.list()) + sum(name in left for name in (".lock", "raw_files.sqlite"))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_on_a_full_disk_it_ends_with_74_and_goes_on_to_the_same_bytes(
    raw: Path, undisturbed: Path, tmp_path: Path, share: float
):
    needed = sum(-(-path.stat().st_size // PAGE_BYTES) for path in undisturbed.rglob("*") if path.is_file())
    disk = tmp_path / "disk"
    disk.mkdir()
    where = [str(int(share * needed) * PAGE_BYTES), str(disk), str(tmp_path)]
    done = run(["unshare", "-Urm", "sh", "-c", ON_A_DISK, "sh", *where, *command(raw, disk / "corpus")])
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"this machine allows no disk of one's own: {done.stderr.strip()}")
    assert [line for line in done.stdout.splitlines() if line.startswith("ended")] == [
        "ended with 74",
        "ended with 0",
    ], done.stderr
    [line] = [line for line in done.stderr.splitlines() if "error[" in line]
    assert "the disk is full" in line and "run the same command again" in line
    assert "Traceback" not in done.stderr
    assert_nothing_is_half_written(tmp_path / "full" / "corpus")
    assert results(tmp_path / "large" / "corpus") == results(undisturbed)


def test_a_file_that_may_not_grow_ends_it_with_74_and_it_goes_on_to_the_same_bytes(
    raw: Path, undisturbed: Path, tmp_path: Path
):
    out = tmp_path / "corpus"
    largest = max(path.stat().st_size for path in (undisturbed / ".cache" / "shards").rglob("*.items"))

    def no_larger_files() -> None:
        # A write past the limit fails with EFBIG, as a full disk fails with ENOSPC.
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, largest - 1))

    done = run(command(raw, out), no_larger_files)
    assert done.returncode == 74, done.stderr
    [line] = [line for line in done.stderr.splitlines() if "error[" in line]
    assert "no room" in line or "the disk is full" in line
    assert_nothing_is_half_written(out)
    assert run(command(raw, out)).returncode == 0
    assert results(out) == results(undisturbed)
