"""Replies that are kept while a run goes on: after a kill at any byte, with another task, in a file that is none."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from core.errors import DataError, DiskError, LockedError, MismatchError, NotWritableError
from inference.chat import Reply
from inference.reply_file import KeptReplies

TASK = {"model": "abc", "temperature": 0.5, "seed": None}
REPLIES = {number: Reply(f"é {number}\n", "stop", number) for number in (3, 0, 2)}


LINES = [f"{number}: é {number}\n" for number in sorted(REPLIES)]


def interrupted(output: Path) -> bytes:
    """What a run that was interrupted after three replies leaves."""
    with pytest.raises(KeyboardInterrupt), KeptReplies(output) as kept:
        assert kept.begin(TASK) is None
        for number, reply in REPLIES.items():
            kept.add(number, reply)
        raise KeyboardInterrupt
    return kept.path.read_bytes()


def finished(output: Path) -> None:
    with KeptReplies(output) as kept:
        assert kept.begin(TASK) is None
        for number in REPLIES.keys() - kept.replies.keys():
            kept.add(number, REPLIES[number])
        kept.finish(LINES)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_an_interrupted_run_finds_its_replies_and_a_finished_one_leaves_what_they_are_to(
    tmp_path: Path,
) -> None:
    output = tmp_path / "new" / "out.jsonl"
    interrupted(output)
    with KeptReplies(output) as kept:
        assert kept.begin(TASK) is None
        assert kept.replies == REPLIES
        kept.add(1, Reply("x", "length", 1))
        kept.finish(LINES)
    assert kept.replies == {**REPLIES, 1: Reply("x", "length", 1)}
    assert output.read_text(encoding="utf-8") == "".join(LINES)
    assert names(output.parent) == ["out.jsonl", "out.jsonl.manifest.json"]
    manifest = json.loads(output.with_name("out.jsonl.manifest.json").read_text())
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    assert manifest == {"task": TASK, "replies": 4, "sha256": digest}


def test_after_a_kill_at_any_byte_all_whole_replies_are_there_and_more_can_follow(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    content = interrupted(output)
    path = output.with_name("out.jsonl.partial")
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        num_whole = max(0, content[:end].count(b"\n") - 1)
        with pytest.raises(KeyboardInterrupt), KeptReplies(output) as kept:
            kept.begin(TASK)
            assert kept.replies == dict(list(REPLIES.items())[:num_whole])
            kept.add(7, Reply("after", "stop", 1))
            raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt), KeptReplies(output) as kept:
            kept.begin(TASK)
            assert list(kept.replies)[-1] == 7
            assert len(kept.replies) == num_whole + 1
            raise KeyboardInterrupt


@pytest.mark.parametrize("written", ["nothing", "the manifest", "manifest and output"])
def test_a_kill_while_the_output_is_written_is_gone_on_from(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.jsonl"
    kept_before = interrupted(output)
    with KeptReplies(output) as kept:
        kept.begin(TASK)
        kept.finish(LINES)
    if written != "manifest and output":
        output.unlink()
    if written == "nothing":
        kept._manifest.unlink()
    kept.path.write_bytes(kept_before)
    with KeptReplies(output) as kept:
        count = kept.begin(TASK)
        assert count == (3 if written == "manifest and output" else None)
        assert kept.replies == REPLIES
        if count is None:
            kept.finish(LINES)
    assert output.read_text(encoding="utf-8") == "".join(LINES)
    assert names(tmp_path) == ["out.jsonl", "out.jsonl.manifest.json"]


def test_without_a_reply_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), KeptReplies(tmp_path / "out.txt") as kept:
        kept.begin(TASK)
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_replies_to_something_else_are_neither_used_nor_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    content = interrupted(output)
    reason = r"out\.txt\.partial: an interrupted run left 3 replies .*\(temperature was 0\.5, now 0\.7\); repeat its"
    for overwrite in (False, True):
        with pytest.raises(MismatchError, match=reason), KeptReplies(output, overwrite=overwrite) as kept:
            kept.begin({**TASK, "temperature": 0.7})
    assert output.with_name("out.txt.partial").read_bytes() == content


def test_a_finished_file_is_known_again_and_replaced_only_when_that_is_said(tmp_path: Path) -> None:
    output, other = tmp_path / "out.txt", {**TASK, "temperature": 0.7}
    finished(output)
    with KeptReplies(output) as kept:
        assert kept.begin(TASK) == 3
    reason = (
        r"out\.txt: holds 3 replies to something else \(temperature was 0\.5, now 0\.7\); .* with --overwrite"
    )
    with pytest.raises(MismatchError, match=reason), KeptReplies(output) as kept:
        kept.begin(other)
    assert names(tmp_path) == ["out.txt", "out.txt.manifest.json"]
    with KeptReplies(output, overwrite=True) as kept:
        assert kept.begin(other) is None
        kept.add(0, Reply("new", "stop", 1))
        kept.finish(["new\n"])
    assert output.read_text() == "new\n"
    with KeptReplies(output) as kept:
        assert kept.begin(other) == 1
    output.write_text("mine\n")
    with (
        pytest.raises(DataError, match=r"out\.txt: was changed after 1 reply had been written"),
        KeptReplies(output) as kept,
    ):
        kept.begin(other)
    assert output.read_text() == "mine\n"


def test_a_file_of_somebody_else_is_refused_before_anything_is_known_of_the_replies(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("mine\n")
    reason = r"out\.txt: is there already, and not the work of this command; name another output"
    with pytest.raises(DataError, match=reason):
        KeptReplies(tmp_path / "out.txt")
    with KeptReplies(tmp_path / "out.txt", overwrite=True) as kept:
        assert kept.begin(TASK) is None
    assert names(tmp_path) == ["out.txt"]
    assert (tmp_path / "out.txt").read_text() == "mine\n"
    (tmp_path / "out.txt.manifest.json").write_text('{"name": "a web page"}')
    with (
        pytest.raises(DataError, match="not the manifest of replies"),
        KeptReplies(tmp_path / "out.txt") as kept,
    ):
        kept.begin(TASK)


@pytest.mark.parametrize("name", ["out.txt", "out.txt.partial", "out.txt.manifest.json"])
def test_a_directory_or_a_pipe_in_its_place_is_refused_without_waiting(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=rf"{name}: expected a file or nothing"):
        KeptReplies(tmp_path / "out.txt")
    (tmp_path / name).rmdir()
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: expected a file or nothing"):
        KeptReplies(tmp_path / "out.txt")


@pytest.mark.parametrize(
    "place",
    [
        *(
            pytest.param(name, marks=pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc"))
            for name in ("/proc/new", "/proc/new/er")
        ),
        "file/below",
    ],
)
def test_a_place_where_no_file_can_be_is_named(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(
        NotWritableError, match=r"^/proc: no file can be made there|/file: expected a directory"
    ):
        KeptReplies(Path(place) / "out.txt")


def test_a_file_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    with KeptReplies(tmp_path / "out.txt") as kept:
        with pytest.raises(LockedError, match=r"out\.txt: another process is writing it; wait"):
            KeptReplies(tmp_path / "out.txt")
        kept.begin(TASK)
        kept.add(0, REPLIES[0])
        with pytest.raises(LockedError):
            KeptReplies(tmp_path / "out.txt", overwrite=True)
        assert kept.path.read_bytes().count(b"\n") == 2
        kept.finish(LINES)
    assert names(tmp_path) == ["out.txt", "out.txt.manifest.json"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"no json\n", 1),
        (b"a line that nobody ended", 1),
        (b"[1]\n", 1),
        (b'{"task": {}}\n{"number": 1}\n', 2),
        (b'{"other": 1}\n', 1),
        (b'{"task": 1}\n', 1),
        (b"\xff\xfe\n", 1),
        (b'{"task": {}}\n{"number": 0, "text": "\xff", "finish_reason": "stop", "num_tokens": 1}\n', 2),
        (b'{"task": {}}\n{"number": 0, "text": 1, "finish_reason": "stop", "num_tokens": 1}\n', 2),
        (b'{"task": {}}\n{"number": [0], "text": "", "finish_reason": "stop", "num_tokens": 1}\n', 2),
        (b'{"task": {}}\n{"number": 0, "text": "", "finish_reason": "end", "num_tokens": 1}\n', 2),
        (b'{"task": {}}\n' + b"[" * 100_000 + b"\n", 2),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_was_kept_by_something_else_or_is_damaged_is_refused_by_line_and_kept(
    content: bytes, line: int, tmp_path: Path
) -> None:
    path = tmp_path / "out.txt.partial"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"out\.txt\.partial:{line}: not the replies of an interrupted run"):
        KeptReplies(tmp_path / "out.txt")
    assert path.read_bytes() == content


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "out.txt.partial").symlink_to(tmp_path / "secret")
    with pytest.raises(NotWritableError):
        KeptReplies(tmp_path / "out.txt")
    assert (tmp_path / "secret").read_text() == "s"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="full"), KeptReplies(tmp_path / "out.txt") as kept:
        kept.begin(TASK)
        kept._file.close()
        kept._file = open("/dev/full", "w", buffering=1)  # noqa: PTH123, SIM115 - closed by the block
        kept.add(0, REPLIES[0])
