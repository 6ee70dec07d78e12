"""The conversation in a terminal, with lines and Ctrl-C from a script."""

import functools
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from core.errors import DataError, Preempted
from inference.chat import ChatModel
from inference.command_line import NAMES
from inference.feedback import model_fingerprint
from inference.terminal import COMMANDS, TerminalChat, line_reader
from tests.inference.tiny_models import save_tiny_model, tiny_model
from tokenization.tokenizer import Tokenizer

GREEDY = {"temperature": 0.0, "max_tokens": 4}


@pytest.fixture(scope="module")
def chat_model(small_tokenizer: Tokenizer) -> ChatModel:
    return ChatModel(tiny_model(max_position_embeddings=128), small_tokenizer)


class Screen(io.StringIO):
    """Where answers go; it can raise at the n-th write, as Ctrl-C would, and say that it is a terminal."""

    def __init__(self, *, interrupt_at: int | None = None, terminal: bool = False) -> None:
        super().__init__()
        self.remaining = interrupt_at
        self.terminal = terminal

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.remaining is not None:
            self.remaining -= 1
            if self.remaining == 0:
                raise KeyboardInterrupt
        return written

    def isatty(self) -> bool:
        return self.terminal


def reader(lines: Sequence[str | BaseException]) -> Callable[[], str]:
    """Reads these lines; an exception among them is raised; EOFError at the end."""
    rest = iter(lines)

    def read() -> str:
        line = next(rest, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    return read


def talk(
    chat_model: ChatModel,
    *lines: str | BaseException,
    screen: Screen | None = None,
    system: str | None = None,
) -> tuple[str, str, TerminalChat]:
    output, notes = screen or Screen(), io.StringIO()
    chat = TerminalChat(chat_model, dict(GREEDY), system=system, output=output, notes=notes)  # type: ignore[arg-type]
    chat.run(reader(lines))
    return output.getvalue(), notes.getvalue(), chat


def test_answers_go_to_the_output_and_the_conversation_is_kept(chat_model: ChatModel) -> None:
    output, _, chat = talk(chat_model, "iron?\n", "\n", "coal?\n")
    first = chat_model.chat([{"role": "user", "content": "iron?"}], **GREEDY)
    second = chat_model.chat(
        [
            {"role": "user", "content": "iron?"},
            {"role": "assistant", "content": first},
            {"role": "user", "content": "coal?"},
        ],
        **GREEDY,
    )
    assert output == f"{first}\n{second}\n"
    assert len(chat.conversation.messages) == 4


def test_an_answer_that_was_cut_off_is_said_to_be(chat_model: ChatModel) -> None:
    _, notes, _ = talk(chat_model, "iron?")
    assert notes == "(cut off: max_tokens is 4, or the context is full)\n"


def test_exit_leaves_and_what_follows_is_not_read(chat_model: ChatModel) -> None:
    output, _, _ = talk(chat_model, "/exit", "iron?")
    assert output == ""


def test_settings_change_by_both_spellings_and_are_used(chat_model: ChatModel) -> None:
    _, notes, chat = talk(
        chat_model, "/set max-tokens 2", "/temperature 1.5", "/top_p 0.5", "/top-p off", "/seed 3", "iron?"
    )
    assert chat.sampling == {"temperature": 1.5, "max_tokens": 2, "top_p": None, "seed": 3}
    assert "(max-tokens is 2)\n" in notes and "max_tokens is 2," in notes


def test_reset_forgets_the_conversation_and_system_begins_anew(chat_model: ChatModel) -> None:
    _, notes, chat = talk(chat_model, "iron?", "/reset", system="Be short.")
    assert chat.conversation.messages == [{"role": "system", "content": "Be short."}]
    assert "the conversation is forgotten" in notes
    _, notes, chat = talk(chat_model, "iron?", "/system Be  long.", "/reset")
    assert chat.conversation.messages == [{"role": "system", "content": "Be  long."}]
    _, notes, chat = talk(chat_model, "/system", system="Be short.")
    assert chat.conversation.messages == [] and "without a system message" in notes


def test_help_names_every_command_and_setting_with_its_value(chat_model: ChatModel) -> None:
    _, notes, _ = talk(chat_model, "/help")
    assert all(command in notes for command in COMMANDS)
    assert all(f"{name} " in notes for name in NAMES)
    assert "temperature 0.0" in notes and "max_tokens 4" in notes and "top_p None" in notes


def test_several_lines_between_quotes_are_one_question(chat_model: ChatModel) -> None:
    _, _, chat = talk(chat_model, '"""\n', "  first\r\n", "\n", "/exit\n", '"""\n', '"""', '"""', "iron?")
    assert [m["content"] for m in chat.conversation.messages if m["role"] == "user"] == [
        "  first\n\n/exit",
        "iron?",
    ]


def test_retry_puts_another_answer_in_the_place_of_the_last(chat_model: ChatModel) -> None:
    output, _, chat = talk(chat_model, "iron?", "coal?", "/temperature 3", "/top_k off", "/seed 1", "/retry")
    lines = output.splitlines()
    assert [message["content"] for message in chat.conversation.messages[::2]] == ["iron?", "coal?"]
    before, again = talk(chat_model, "iron?", "coal?")[2].conversation.messages, chat.conversation.messages
    assert before[:3] == again[:3] and before[3] != again[3]
    assert lines


def test_a_saved_conversation_goes_on_where_it_was_and_is_a_record_for_tuning(
    chat_model: ChatModel, tmp_path: Path
) -> None:
    path = tmp_path / "talk.json"
    _, notes, chat = talk(chat_model, "iron?", f"/save {path}", "coal?", system="Be short.")
    assert f"(3 messages are in {path})" in notes
    assert json.loads(path.read_text()) == {"messages": chat.conversation.messages[:3]}
    loaded = talk(chat_model, "x", f"/load {path}", "coal?")[2]
    assert loaded.conversation.messages == chat.conversation.messages
    assert (
        talk(chat_model, f"/load {path}", "/reset")[2].conversation.messages == chat.conversation.messages[:1]
    )
    _, notes, _ = talk(chat_model, f"/load {path}", "/history")
    assert f"system: Be short.\nuser: iron?\nassistant: {chat.conversation.messages[2]['content']}\n" in notes


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"cannot be read \(No such file"),
        ("{", r"talk.json:1: not valid JSON"),
        ("[]", "expected a JSON object"),
        ('{"messages": 3}', r'expected \{"messages": \[...\]\}, as /save'),
        ('{"messages": ["a"]}', r'expected \{"messages": \[...\]\}, as /save'),
        ('{"messages": []}', "expected messages of which the last is the assistant's"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "expected messages of which the last is the"),
        (
            '{"messages": [{"role": "user"}, {"role": "assistant", "content": "a"}]}',
            "message 0 has no 'content'",
        ),
    ],
    ids=str,
)
def test_a_file_that_is_no_conversation_is_named_and_changes_nothing(
    chat_model: ChatModel, tmp_path: Path, content: str | None, reason: str
) -> None:
    path = tmp_path / "talk.json"
    if content is not None:
        path.write_text(content)
    _, notes, chat = talk(chat_model, "iron?", f"/load {path}")
    assert re.search(rf"error\[E020\]: {re.escape(str(path))}.*{reason}|error\[E020\]: .*{reason}", notes)
    assert len(chat.conversation.messages) == 2


def test_feedback_is_kept_beside_the_run_and_a_correction_is_what_was_said(
    small_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    save_tiny_model(run / "finetune" / "final", small_tokenizer)
    model = ChatModel.load(run)
    _, notes, chat = talk(model, "iron?", "/good", "/bad", "/correct Fe.", "/history")
    records = [json.loads(line) for line in (run / "feedback.jsonl").read_text().splitlines()]
    said = records[0]["messages"][-1]["content"]
    assert [(r["rating"], r["correction"]) for r in records] == [(1, None), (-1, None), (-1, "Fe.")]
    assert all(r["messages"][0] == {"role": "user", "content": "iron?"} for r in records)
    assert all(r["messages"][-1] == {"role": "assistant", "content": said} for r in records)
    assert len({r["model"] for r in records}) == 1 and len(records[0]["model"]) == 64
    assert chat.conversation.messages[-1] == {"role": "assistant", "content": "Fe."}
    assert notes.count(f"(kept in {run.absolute()}/feedback.jsonl)") == 3


def test_feedback_names_the_model_that_answered_and_not_the_one_that_lies_there_now(
    small_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    place = save_tiny_model(tmp_path / "m", small_tokenizer)
    answered = model_fingerprint(place)

    def lines() -> Iterator[str]:
        yield "iron?"
        shutil.rmtree(place)
        save_tiny_model(place, small_tokenizer, seed=1)
        yield "/good"
        raise EOFError

    chat = TerminalChat(ChatModel.load(place), {"max_tokens": 2}, output=io.StringIO(), notes=io.StringIO())
    chat.run(functools.partial(next, lines()))
    (record,) = [json.loads(line) for line in (place / "feedback.jsonl").read_text().splitlines()]
    assert record["model"] == answered != model_fingerprint(place)


def test_feedback_that_cannot_be_written_is_reported_and_the_conversation_goes_on(
    small_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = ChatModel.load(save_tiny_model(tmp_path / "m", small_tokenizer))
    (tmp_path / "m" / "feedback.jsonl").mkdir()
    _, notes, chat = talk(model, "iron?", "/good", "coal?")
    assert "error[E031]" in notes and "feedback.jsonl" in notes
    assert len(chat.conversation.messages) == 4


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/temprature 3", r"error[E001]: /temprature: no such command; did you mean '/temperature'? (/help"),
        ("/stats", "error[E001]: /stats: no such command"),
        ("/retry", "error[E020]: there is no answer yet; ask something first"),
        ("/good", "error[E020]: there is no answer yet"),
        ("/correct", "error[E001]: expected what the answer should have been: /correct TEXT"),
        ("/correct Fe.", "error[E020]: there is no answer yet"),
        ("/save", "error[E001]: expected the name of a file: /save FILE"),
        ("/load", "error[E001]: expected the name of a file: /load FILE"),
        ("/save /dev/null/x", "error[E03"),
        ("/set", "error[E001]: expected a setting and a value"),
        ("/seed", "error[E001]: expected a setting and a value"),
        ("/set seed", "error[E001]: expected a setting and a value"),
        ("/set heat 3", "error[E010]: unknown setting 'heat'"),
        ("/set stop_ids [3]", "error[E010]: unknown setting 'stop_ids'"),
        ("/top_k 0", "error[E010]: top_k: expected 1 or more, found 0"),
        ("/temperature hot", 'error[E010]: temperature: expected a number, found "hot"'),
        ("é" * 200, "error[E020]: the prompt is 404 tokens long"),
        ("\ud800", "error[E020]: the text"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_mistake_is_reported_and_the_conversation_goes_on(
    chat_model: ChatModel, line: str, reason: str
) -> None:
    output, notes, chat = talk(chat_model, line, "iron?")
    assert notes.startswith(reason)
    assert output == talk(chat_model, "iron?")[0]
    assert chat.sampling == GREEDY


def test_ctrl_c_stops_the_answer_and_not_the_program(chat_model: ChatModel) -> None:
    whole, _, _ = talk(chat_model, "iron?")
    screen = Screen(interrupt_at=2)
    output, notes, chat = talk(chat_model, "iron?", "/max_tokens 2", screen=screen)
    assert whole.startswith(output) and 0 < len(output) < len(whole)
    assert "(stopped; Ctrl-D or /exit leaves)" in notes
    assert chat.conversation.messages[-1] == {"role": "assistant", "content": output}
    assert chat.sampling["max_tokens"] == 2


def test_ctrl_c_while_nothing_is_said_says_how_to_leave(chat_model: ChatModel) -> None:
    output, notes, _ = talk(chat_model, KeyboardInterrupt(), "iron?")
    assert "Ctrl-D or /exit leaves" in notes
    assert output


def test_a_request_to_end_the_process_is_not_taken_for_a_mistake(chat_model: ChatModel) -> None:
    with pytest.raises(Preempted):
        talk(chat_model, Preempted("SIGTERM"))


def test_one_question_raises_its_errors(chat_model: ChatModel) -> None:
    chat = TerminalChat(chat_model, {}, output=Screen(), notes=io.StringIO())
    with pytest.raises(DataError, match="prompt is 404 tokens long"):
        chat.answer("é" * 200)


def test_escape_sequences_do_not_reach_a_terminal_but_do_reach_a_file(
    chat_model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a\x1b[2J\x07\tb\nc\x7f"
    for terminal, expected in [(True, "a␛[2J␇\tb\nc␡\n"), (False, text + "\n")]:
        screen = Screen(terminal=terminal)
        chat = TerminalChat(chat_model, {}, output=screen, notes=io.StringIO())
        monkeypatch.setattr(chat.conversation, "ask", lambda *_a, **_m: Answered(text))
        chat.answer("iron?")
        assert screen.getvalue() == expected


@pytest.mark.parametrize(("terminal", "expected"), [(True, "a␛[2J"), (False, "a\x1b[2J")])
def test_the_history_on_a_terminal_has_no_escape_sequences(
    chat_model: ChatModel, terminal: bool, expected: str
) -> None:
    notes = Screen(terminal=terminal)
    chat = TerminalChat(chat_model, {}, output=Screen(), notes=notes)
    chat.conversation.messages = [{"role": "assistant", "content": "a\x1b[2J"}]
    chat.run(reader(["/history"]))
    assert notes.getvalue() == f"assistant: {expected}\n"


class Answered:
    """A stream of one piece."""

    finish_reason = "stop"

    def __init__(self, text: str) -> None:
        self.text = text

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter([self.text])

    def close(self) -> None:
        pass


def test_lines_of_a_pipe_are_read_to_its_end() -> None:
    read = line_reader(io.StringIO("a\n\nb"))
    assert [read(), read(), read()] == ["a\n", "\n", "b"]
    with pytest.raises(EOFError):
        read()
