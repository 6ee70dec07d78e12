"""Replies that are kept while a run goes on: after a kill at any byte, with another task, in a file that is none."""

from pathlib import Path

import pytest

from core.errors import DataError, DiskError, MismatchError, NotWritableError
from inference.chat import Reply
from inference.reply_file import KeptReplies

TASK = {"model": "abc", "temperature": 0.5, "seed": None}
REPLIES = {number: Reply(f"é {number}\n", "stop", number) for number in (3, 0, 2)}


def interrupted(output: Path) -> bytes:
    """What a run that was interrupted after three replies leaves."""
    with pytest.raises(KeyboardInterrupt), KeptReplies(output, task=TASK) as kept:
        for number, reply in REPLIES.items():
            kept.add(number, reply)
        raise KeyboardInterrupt
    return kept.path.read_bytes()


def test_an_interrupted_run_finds_its_replies_and_a_finished_one_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "new" / "out.jsonl"
    interrupted(output)
    with KeptReplies(output, task=TASK) as kept:
        assert kept.replies == REPLIES
        kept.add(1, Reply("x", "length", 1))
    assert kept.replies == {**REPLIES, 1: Reply("x", "length", 1)}
    assert list(output.parent.iterdir()) == []


def test_after_a_kill_at_any_byte_all_whole_replies_are_there_and_more_can_follow(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    content = interrupted(output)
    path = output.with_name("out.jsonl.partial")
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        num_whole = max(0, content[:end].count(b"\n") - 1)
        with pytest.raises(KeyboardInterrupt), KeptReplies(output, task=TASK) as kept:
            assert kept.replies == dict(list(REPLIES.items())[:num_whole])
            kept.add(7, Reply("after", "stop", 1))
            raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt), KeptReplies(output, task=TASK) as kept:
            assert list(kept.replies)[-1] == 7
            assert len(kept.replies) == num_whole + 1
            raise KeyboardInterrupt


def test_replies_to_something_else_are_neither_used_nor_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    content = interrupted(output)
    reason = r"out\.txt\.partial: an interrupted run left 3 replies .*\(temperature was 0\.5, now 0\.7\); repeat its"
    with pytest.raises(MismatchError, match=reason):
        KeptReplies(output, task={**TASK, "temperature": 0.7})
    assert output.with_name("out.txt.partial").read_bytes() == content


@pytest.mark.parametrize("content", ["no json\n", "[1]\n", '{"task": {}}\n{"number": 1}\n', '{"other": 1}\n'])
def test_a_file_that_holds_something_else_is_refused_and_kept(content: str, tmp_path: Path) -> None:
    path = tmp_path / "out.txt.partial"
    path.write_text(content)
    with pytest.raises(DataError, match=r"out\.txt\.partial: not the replies of an interrupted run"):
        KeptReplies(tmp_path / "out.txt", task={})
    assert path.read_text() == content


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "out.txt.partial").symlink_to(tmp_path / "secret")
    with pytest.raises(NotWritableError):
        KeptReplies(tmp_path / "out.txt", task=TASK)
    assert (tmp_path / "secret").read_text() == "s"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="full"), KeptReplies(tmp_path / "out.txt", task=TASK) as kept:
        kept._file.close()
        kept._file = open("/dev/full", "w", buffering=1)  # noqa: PTH123, SIM115 - closed by the block
        kept.add(0, REPLIES[0])
