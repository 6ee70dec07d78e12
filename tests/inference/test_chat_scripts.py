"""scripts/chat.py and scripts/generate.py: their functions called here, and as processes as users start them."""

import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from core.errors import ConfigError, DataError, MismatchError, NotWritableError, UsageError
from inference.chat import ChatModel
from inference.command_line import NAMES
from inference.sampling_settings import SamplingSettings
from tests.inference.tiny_models import save_tiny_model
from tokenization.tokenizer import Tokenizer

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_script", SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHAT, GENERATE = script("chat"), script("generate")


@pytest.fixture(scope="module")
def run(small_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a pretrained and a tuned model."""
    run = tmp_path_factory.mktemp("work") / "runs" / "mine"
    save_tiny_model(run / "pretrain" / "final", small_tokenizer, stage="pretraining")
    save_tiny_model(run / "finetune" / "final", small_tokenizer, seed=1)
    return run


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The scripts set up logging for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def answer_of(run: Path, text: str, **sampling: object) -> str:
    model = ChatModel.load(run, device="cpu", weights="auto")
    return model.chat([{"role": "user", "content": text}], **sampling)  # type: ignore[arg-type]


# --- chat.py ---


def test_one_question_is_answered_on_standard_output(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--device", "cpu", "--temperature", "0", "--max-tokens", "5", "--prompt", "iron?"]
    assert CHAT.main([str(run), *flags]) == 0
    captured = capsys.readouterr()
    assert captured.out == answer_of(run, "iron?", temperature=0, max_tokens=5) + "\n"
    assert captured.err.startswith(f"{run}/finetune/final (answers; ")


def test_the_sampling_flags_are_used(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--temperature", "2", "--top-k", "none", "--top-p", "0.9", "--repetition-penalty", "1.3"]
    flags += ["--max-tokens", "9", "--seed", "4"]
    assert CHAT.main([str(run), "--device", "cpu", *flags, "--prompt", "iron?"]) == 0
    options = {
        "temperature": 2,
        "top_k": None,
        "top_p": 0.9,
        "repetition_penalty": 1.3,
        "max_tokens": 9,
        "seed": 4,
    }
    assert capsys.readouterr().out == answer_of(run, "iron?", **options) + "\n"


def test_without_a_run_the_newest_is_taken_and_named(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent.parent)
    assert CHAT.main(["--device", "cpu", "--max-tokens", "2", "--prompt", "iron?"]) == 0
    assert capsys.readouterr().err.startswith("runs/mine/finetune/final (answers; ")


def test_a_pretrained_model_says_so_and_continues_the_text(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--device", "cpu", "--temperature", "0", "--max-tokens", "5", "--prompt", "iron is"]
    assert CHAT.main([str(run / "pretrain"), *flags]) == 0
    captured = capsys.readouterr()
    expected = ChatModel.load(run / "pretrain", device="cpu").generate("iron is", temperature=0, max_tokens=5)
    assert captured.out == expected + "\n"
    assert "pretrained only: continues text" in captured.err
    assert "pretrained only; it continues the text instead of answering" in captured.err


@pytest.mark.parametrize("main", [CHAT.main, GENERATE.main])
@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        (["--temperature", "-1"], ConfigError, "^--temperature: expected 0 or more, found -1"),
        (["--top-k", "many"], ConfigError, '^--top-k: expected a whole number, found "many"'),
        (["--temprature", "1"], UsageError, r"unrecognized arguments: --temprature"),
        (["a", "b"], UsageError, "unrecognized arguments: b"),
        (["--stop", ""], ConfigError, '^--stop: expected a text of 1 or more characters, found ""$'),
        (["--stop", "a", "--stop", "[5]"], ConfigError, "^--stop: expected a text, found 5$"),
        (["--stop", "a"] * 17, ConfigError, "^--stop: expected a list of 16 or fewer, found "),
        (["--max-tokens", "9" * 5000], ConfigError, "^--max-tokens: expected a whole number, found"),
        (["--seed", "[" * 100_000], ConfigError, "^--seed: expected a whole number, found"),
        (["--repetition-penalty"], UsageError, "^--repetition-penalty: expected one argument"),
        (["nowhere"], DataError, "nowhere: expected the directory of a run or of a model, found nothing"),
        ([], DataError, "no run was named and .*runs holds none with a model"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_on_the_command_line_is_named(
    main: object,
    arguments: list[str],
    error: type[Exception],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    more = []
    if main is GENERATE.main:
        (tmp_path / "p.txt").write_text("iron\n")
        more = ["--prompts", "p.txt"]
    with pytest.raises(error, match=reason):
        main([*arguments, *more, "--device", "cpu"])  # type: ignore[operator]


def test_a_question_of_nothing_is_refused_before_the_model_is_looked_for() -> None:
    for text in ("", " \n"):
        with pytest.raises(UsageError, match=r"^--prompt: is empty; expected a question"):
            CHAT.main(["nowhere", "--prompt", text])


def test_every_setting_has_a_flag_whose_help_states_its_default() -> None:
    text = " ".join(CHAT.parser().format_help().split())
    for name in NAMES:
        default = json.dumps(SamplingSettings.model_fields[name].default)
        assert f"--{name.replace('_', '-')} " in text
        assert f"Default: {default}." in text


# --- generate.py ---


def test_text_prompts_give_a_line_each_in_their_order(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.txt").write_text("iron is\n\nthe coal and the fire\nore\n")
    flags = [
        "--prompts",
        str(tmp_path / "p.txt"),
        "--device",
        "cpu",
        "--temperature",
        "0",
        "--max-tokens",
        "6",
    ]
    assert GENERATE.main([str(run / "pretrain"), *flags, "--batch-size", "2"]) == 0
    model = ChatModel.load(run / "pretrain", device="cpu")
    expected = [
        model.generate(text, temperature=0, max_tokens=6)
        .replace("\\", "\\\\")
        .replace("\n", "\\n")
        .replace("\r", "\\r")
        for text in ("iron is", "the coal and the fire", "ore")
    ]
    assert capsys.readouterr().out == "".join(line + "\n" for line in expected)


def test_records_come_back_with_their_replies(run: Path, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "iron?"}]
    records = [{"prompt": "iron?", "id": "é"}, {"messages": messages}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, records)))
    out = tmp_path / "new" / "out.jsonl"
    flags = [
        "--prompts",
        str(tmp_path / "p.jsonl"),
        "--output",
        str(out),
        "--device",
        "cpu",
        "--temperature",
        "0",
    ]
    assert GENERATE.main([str(run), *flags, "--max-tokens", "6", "--chat"]) == 0
    written = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    answer = answer_of(run, "iron?", temperature=0, max_tokens=6)
    assert [record["reply"] for record in written] == [answer, answer]
    assert written[0]["id"] == "é" and written[1]["messages"] == messages
    assert written[0]["num_tokens"] <= 6 and written[0]["finish_reason"] in ("stop", "length")
    assert GENERATE.main([str(run), *flags, "--max-tokens", "6", "--output", str(tmp_path / "out.txt")]) == 0
    assert len((tmp_path / "out.txt").read_text().splitlines()) == 2


def test_an_interrupted_file_of_replies_is_finished_with_the_replies_that_it_has(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.txt").write_text("".join(f"iron {number}\n" for number in range(6)))
    flags = [
        str(run),
        "--prompts",
        str(tmp_path / "p.txt"),
        "--device",
        "cpu",
        "--seed",
        "3",
        "--replies",
        "2",
    ]
    flags += ["--max-tokens", "8", "--batch-size", "3", "--output"]
    assert GENERATE.main([*flags, str(tmp_path / "whole.json")]) == 0
    replies, made = ChatModel.replies, []

    def until_the_fifth(self: ChatModel, *arguments: object, **options: object) -> Iterator[object]:
        for number, reply in replies(self, *arguments, **options):  # type: ignore[arg-type]
            made.append(number)
            yield number, reply
            if len(made) == 5:
                raise KeyboardInterrupt

    monkeypatch.setattr(ChatModel, "replies", until_the_fifth)
    out = tmp_path / "out.json"
    with pytest.raises(KeyboardInterrupt):
        GENERATE.main([*flags, str(out)])
    assert not out.exists()
    capsys.readouterr()
    assert GENERATE.main([*flags, str(out)]) == 0
    assert "out.json.partial: 5 of 12 replies are there; going on" in capsys.readouterr().err
    assert sorted(made) == list(range(12)), "none was made twice"
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert len(json.loads(out.read_text())) == 12
    assert not out.with_name("out.json.partial").exists()


def test_a_finished_file_of_replies_is_kept_by_the_same_command_and_by_another(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.txt").write_text("iron\ncoal\n")
    out = tmp_path / "out.md"
    flags = [str(run), "--prompts", str(tmp_path / "p.txt"), "--output", str(out), "--device", "cpu"]
    flags += ["--max-tokens", "3", "--replies", "2"]
    assert GENERATE.main(flags) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"4 replies written to {out}"
    written = out.read_bytes()
    assert GENERATE.main(flags) == 0
    assert f"{out}: finished already, 4 replies; --overwrite makes them anew" in capsys.readouterr().err
    with pytest.raises(MismatchError, match=r"out\.md: holds 4 replies .*\(max_tokens was 3, now 4\)"):
        GENERATE.main([*flags, "--max-tokens", "4"])
    with pytest.raises(MismatchError, match=r"\(prompts was \w{12}, now \w{12}\)"):
        GENERATE.main([*flags, "--replies", "1"])
    with pytest.raises(MismatchError, match=r"\(model was \w{12}, now \w{12}\)"):
        GENERATE.main([str(run / "pretrain"), *flags[1:]])
    assert out.read_bytes() == written
    assert GENERATE.main([*flags, "--max-tokens", "4", "--overwrite"]) == 0
    assert f"4 replies written to {out}" in capsys.readouterr().err
    assert out.read_bytes() != written


@pytest.mark.parametrize(
    ("place", "reason"), [("p.txt/o.txt", "expected a directory"), ("d.txt", "expected a file")]
)
def test_a_place_for_replies_that_cannot_be_is_refused_before_the_model_is_looked_for(
    place: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("iron\n")
    (tmp_path / "d.txt").mkdir()
    with pytest.raises((NotWritableError, DataError), match=reason):
        GENERATE.main(["no model", "--prompts", "p.txt", "--output", place])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"prompt": "a"}\n{"prompt": 1}', r"p\.jsonl:2: prompt: expected a text, found 1"),
        ('{"prompt": "a"}\n\n{"messages": [{"role": "user"}]}', r"p\.jsonl:3: message 0 has no 'content'"),
        (json.dumps({"prompt": "é" * 40}), r"p\.jsonl:1: the prompt is 81 tokens long and .* 64 tokens"),
        ('{"prompt": "\\ud800"}', r"p\.jsonl:1: a lone surrogate"),
        ("\n\n", r"p\.jsonl: holds no prompt"),
    ],
    ids=lambda value: value[:20],
)
def test_a_bad_prompt_is_named_by_file_and_line_before_anything_is_written(
    run: Path, tmp_path: Path, content: str, reason: str
) -> None:
    (tmp_path / "p.jsonl").write_text(content)
    out = tmp_path / "out.jsonl"
    with pytest.raises(DataError, match=reason):
        GENERATE.main(
            [str(run), "--prompts", str(tmp_path / "p.jsonl"), "--output", str(out), "--device", "cpu"]
        )
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        (
            ["--prompts", "p.csv"],
            UsageError,
            r"--prompts p.csv: expected a name that ends in \.jsonl or \.txt",
        ),
        (
            ["--prompts", "p.txt", "--output", "o.csv"],
            UsageError,
            r"--output o.csv: expected .*\.jsonl or \.txt or",
        ),
        (
            ["--prompts", "p.txt", "--replies", "0"],
            UsageError,
            "^--replies: expected a whole number, 1 or more, found '0'",
        ),
        (["--prompts", "p.txt", "--weights", "int4"], UsageError, "^--weights: invalid choice: 'int4'"),
        (["--prompts", "p.txt", "--output", "./p.txt"], UsageError, "is the file of the prompts"),
        (["--prompts", "p.txt", "--overwrite"], UsageError, "^--overwrite: there is no --output"),
        (["--prompts", ""], UsageError, "^--prompts '': expected a name that ends in"),
        (["--prompts", "none.txt"], DataError, r"--prompts none.txt: cannot be read \(No such file"),
        (["--prompts", "p.txt", "--batch-size", "0"], UsageError, "^--batch-size: .* found '0'"),
        ([], UsageError, "the following arguments are required: --prompts"),
    ],
    ids=str,
)
def test_files_that_cannot_be_used_are_named(
    arguments: list[str], error: type[Exception], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("iron\n")
    with pytest.raises(error, match=reason):
        GENERATE.main(arguments)


# --- as processes ---


def start(*arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, encoding="utf-8", **more)  # type: ignore[call-overload,no-any-return]


def test_wrong_usage_ends_with_code_2_and_one_line_before_torch_is_loaded(tmp_path: Path) -> None:
    result = start("-X", "importtime", SCRIPTS / "chat.py", "--bogus")
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("import time:")]
    assert lines == ["error[E001]: unrecognized arguments: --bogus (see --help)"]
    assert "| torch\n" not in result.stderr


@pytest.mark.slow
def test_a_conversation_through_a_pipe(run: Path) -> None:
    lines = "iron?\n/set temperature -1\ncoal?\n/nonsense\n"
    flags = ["--device", "cpu", "--temperature", "0", "--max-tokens", "5"]
    result = start(SCRIPTS / "chat.py", run, *flags, input=lines)
    assert result.returncode == 0
    first = answer_of(run, "iron?", temperature=0, max_tokens=5)
    assert result.stdout.startswith(first + "\n")
    assert result.stdout.count("\n") >= 2
    assert "error[E010]: temperature: " in result.stderr
    assert "error[E001]: /nonsense: no such command" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_bytes_that_are_no_text_do_not_end_the_conversation(run: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "chat.py"), str(run), "--device", "cpu", "--max-tokens", "2"]
    result = subprocess.run(command, capture_output=True, input=b"a\xff\xfeb\nok\n", timeout=120)
    assert result.returncode == 0
    assert b"Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("debug", "traceback"), [([], False), (["--debug"], True)])
def test_an_error_is_one_line_with_its_exit_code(tmp_path: Path, debug: list[str], traceback: bool) -> None:
    result = start(SCRIPTS / "chat.py", tmp_path, "--prompt", "iron?", *debug)
    assert result.returncode == DataError.exit_code == 65
    assert result.stderr.splitlines()[-1].startswith(f"error[E020]: {tmp_path}: holds no model.")
    assert ("Traceback" in result.stderr) is traceback
    assert result.stdout == ""


@pytest.mark.slow
def test_ctrl_c_stops_the_answer_of_a_process_and_ctrl_d_ends_it(
    small_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    # Tokens that never end: a context of 100,000 tokens takes minutes.
    save_tiny_model(tmp_path / "m", small_tokenizer, max_position_embeddings=100_000)
    command = [sys.executable, "-u", str(SCRIPTS / "chat.py"), str(tmp_path / "m"), "--device", "cpu"]
    flags = ["--temperature", "0", "--max-tokens", "100000", "--repetition-penalty", "1.0"]
    process = subprocess.Popen(
        [*command, *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A test run in the background of a shell ignores SIGINT, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"iron?\n")
        process.stdin.flush()
        assert os.read(process.stdout.fileno(), 1)
        process.send_signal(signal.SIGINT)
        process.stdin.write(b"/max_tokens 3\ncoal?\n")
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert b"(stopped; Ctrl-D or /exit leaves)" in errors
    assert b"(max_tokens is 3)" in errors
    assert b"Traceback" not in errors


@pytest.mark.slow
def test_generate_reads_standard_input_and_writes_standard_output(run: Path) -> None:
    flags = ["--prompts", "-", "--jsonl", "--device", "cpu", "--max-tokens", "3", "--seed", "1"]
    lines = '{"prompt": "iron"}\n{"prompt": "é"}\n'
    results = [start(SCRIPTS / "generate.py", run, *flags, input=lines) for _ in range(2)]
    assert [result.returncode for result in results] == [0, 0]
    assert results[0].stdout == results[1].stdout
    assert [json.loads(line)["prompt"] for line in results[0].stdout.splitlines()] == ["iron", "é"]
    bad = start(SCRIPTS / "generate.py", run, *flags, input='{"prompt": "iron"}\n{')
    assert bad.returncode == 65
    assert "error[E020]: standard input:2: not valid JSON" in bad.stderr


@pytest.mark.slow
def test_talking_loads_no_library_that_it_does_not_need(run: Path) -> None:
    code = (
        "import sys; sys.argv[1:] = []; from inference.chat import ChatModel; import inference.terminal;"
        f"ChatModel.load({str(run)!r}, device='cpu').generate('iron', max_tokens=2);"
        "print(sorted({'transformers', 'torch._dynamo', 'datasets', 'pyarrow', 'wandb', 'tensorboard', 'pandas',"
        " 'training', 'data_processing'} & set(sys.modules)))"
    )
    result = start("-c", code, cwd=SCRIPTS.parent)
    assert (result.stdout, result.returncode) == ("[]\n", 0), result.stderr
