"""What is refused before any work: every file and directory that a setting names, when it is not what it should be."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.config_files import load_config
from core.errors import ConfigError, DataError, DiskError
from core.stage import Selection
from core.training_config import PipelineConfig
from pipeline.run import plan_line

NOT_UTF8 = b"\xff\xfe\xff\x00\x80" * 20

Make = Callable[[Path], object]


def directory(path: Path) -> None:
    path.mkdir()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def nothing(_path: Path) -> None:
    pass


def holding(content: bytes) -> Make:
    return lambda path: path.write_bytes(content)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a directory of raw files."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_text("The iron is hot. " * 20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(setting: str, value: object) -> None:
    nested: Any = value
    for part in reversed(setting.split(".")):
        nested = {part: nested}
    config = PipelineConfig.from_dict({"data": {"raw_dir": "raw", "corpus": "directory"}})
    plan_line(config.replace(**nested))


FILES: list[tuple[str, str, Make, type[Exception], str]] = [
    (
        "data.raw_dir",
        "x",
        nothing,
        DataError,
        r"^x: no such directory .*, or set data\.raw_dir to where they are$",
    ),
    (
        "data.raw_dir",
        "x",
        holding(b""),
        DataError,
        r"^x: is a file, expected a directory; set data\.raw_dir to ",
    ),
    ("data.raw_dir", "x", loop, DataError, r"^x: no such directory .* set data\.raw_dir"),
    (
        "data.file_list",
        "x",
        nothing,
        DataError,
        r"^data\.file_list='x': cannot be read \(No such file.*; name a ",
    ),
    (
        "data.file_list",
        "x",
        directory,
        DataError,
        r"^data\.file_list='x': cannot be read \(Is a dir.*; name a file",
    ),
    (
        "data.file_list",
        "x",
        holding(NOT_UTF8),
        DataError,
        r"^data\.file_list='x': not UTF-8 .*; save it as UTF-8$",
    ),
    (
        "data.file_list",
        "x",
        holding(b"#"),
        DataError,
        r"^data\.file_list='x': names no file; write one path a line",
    ),
    (
        "data.file_list",
        "x",
        holding(b"no"),
        DataError,
        r"^x:1: no: no such file .*; names in data\.file_list are ",
    ),
    *(
        (setting, "x", make, DataError, f"^{setting}{reason}")
        for setting in ("data.blocklist.documents", "data.blocklist.patterns")
        for make, reason in (
            (nothing, "='x': no such file; correct the name, or leave the setting out$"),
            (loop, "='x': no such file; correct the name"),
            (directory, r": x cannot be read \(Is a directory\); expected a text file$"),
            (holding(NOT_UTF8), r": x is not UTF-8 \(.* at byte 0\); save it as UTF-8$"),
        )
    ),
    ("data.blocklist.patterns", "x", holding(b"/(/"), DataError, "^x:1: not a regular expression of RE2"),
    *(
        ("data.decontamination.files", name, make, DataError, rf"^data\.decontamination\.files{reason}")
        for name, make, reason in (
            ("x.jsonl", nothing, r"='x\.jsonl': no such file; correct the name, or leave the setting out$"),
            ("x.jsonl", directory, r": x\.jsonl cannot be read \(Is a directory\); expected a text file$"),
            ("x.jsonl", holding(NOT_UTF8), r": x\.jsonl is not UTF-8 .*; save it as UTF-8$"),
            ("x.jsonl", holding(b"\n{"), r": x\.jsonl:2: not JSON .*; correct it or leave it out$"),
            (
                "x.json",
                holding(b"[" * 100_000),
                r": x\.json: not usable \(JSON nested too deeply\); leave it out$",
            ),
            ("x.csv", holding(b"a"), r": x\.csv ends with '\.csv'; expected one of \.jsonl"),
        )
    ),
    *(
        (setting, name, make, error, f"^{setting}{reason}")
        for setting in ("tokenizer.path", "tokenizer.references")
        for name, make, error, reason in (
            ("x", nothing, DataError, "='x': no such file; correct the name, or leave the setting out$"),
            (
                "x",
                directory,
                ConfigError,
                r": x: holds no tokenizer; expected tokenizer\.model, tokenizer\.json or ",
            ),
            (
                "x",
                holding(b""),
                DataError,
                r": x: no tokenizer: .*; expected tokenizer\.model, tokenizer\.json or",
            ),
            ("x", holding(NOT_UTF8), DataError, r": x: no tokenizer: .*; expected tokenizer\.model"),
            ("x", holding(b"{"), DataError, r": x: not a tokenizer\.json \(not valid JSON"),
            (
                "x",
                holding(b"YQ== 0\nYQ 1\n"),
                ConfigError,
                r": x: a tiktoken file .*set tokenizer\.tiktoken_pattern",
            ),
        )
    ),
    (
        "instruction.data",
        "x",
        nothing,
        DataError,
        r"^instruction\.data='x': no such file; name a jsonl or json file",
    ),
    (
        "instruction.data",
        "x",
        directory,
        DataError,
        r"^instruction\.data='x': is no regular file; name a jsonl or ",
    ),
    (
        "instruction.data",
        "x",
        holding(b""),
        DataError,
        r"^instruction\.data: x: no record in it; expected one of",
    ),
    (
        "instruction.data",
        "x",
        holding(NOT_UTF8),
        DataError,
        r"^instruction\.data: x:1: malformed_json: not UTF-8 .*",
    ),
    (
        "instruction.data",
        "x",
        holding(b"{}"),
        DataError,
        r"^instruction\.data: x:1: .*; expected one of these",
    ),
]


@pytest.mark.parametrize(("setting", "name", "make", "error", "reason"), FILES)
def test_what_is_wrong_with_a_named_file_names_the_setting_and_what_to_do(
    here: Path, setting: str, name: str, make: Make, error: type[Exception], reason: str
) -> None:
    make(here / name)
    is_list = setting in ("data.decontamination.files", "tokenizer.references")
    with pytest.raises(error, match=reason):
        plan(setting, [name] if is_list else name)


@pytest.mark.parametrize(
    ("value", "make", "reason"),
    [
        ("x", holding(b""), "x is no directory"),
        ("x/within", holding(b""), ".*x is no directory"),
        ("x", loop, "x is a link that leads nowhere"),
    ],
)
@pytest.mark.parametrize(
    "setting",
    [
        *("run.dir", "data.output_dir", "data.dataset_dir", "data.cache_dir", "tokenizer.output_dir"),
        *("training.output_dir", "instruction.output_dir"),
    ],
)
def test_a_place_of_results_that_can_be_no_directory_names_the_setting_and_what_to_do(
    here: Path, setting: str, value: str, make: Make, reason: str
) -> None:
    make(here / "x")
    with pytest.raises(
        ConfigError, match=f"^{setting}='{value}': {reason}; choose another place, or move it out of the way$"
    ):
        plan(setting, value)


def test_a_preset_that_is_none_names_the_setting_and_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"^run\.preset: .*/tny: no such .*; did you mean 'tiny'\? \(shipped: conf"
    ):
        load_config(None, {"run": {"preset": "tny"}})


def test_without_a_run_directory_its_name_is_what_is_refused(here: Path) -> None:
    (here / "runs").mkdir()
    (here / "runs" / "mine").write_text("")
    with pytest.raises(ConfigError, match=r"^run\.name='runs/mine': runs/mine is no directory"):
        plan("run.name", "mine")


@pytest.mark.parametrize("section", ["training", "instruction"])
def test_a_precision_that_the_device_has_not_is_refused_before_any_text_is_read(
    here: Path, section: str
) -> None:
    config = {"training": {"device": "cpu"}, "data": {"raw_dir": "raw"}}
    config[section] = {**config.get(section, {}), "mixed_precision": "fp8"}
    message = (
        rf"^{section}: mixed_precision: fp8 needs a CUDA device .* 8\.9 .* the device is cpu; set it to auto"
    )
    with pytest.raises(ConfigError, match=message):
        plan_line(PipelineConfig.from_dict(config))


def test_a_cache_at_a_url_is_not_looked_for_on_this_machine(here: Path) -> None:
    (here / "memory:").write_text("")
    plan("data.cache_dir", "memory://cache")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(here: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({f"w{n}": n for n in range(9000)}, unk_token="w0")
    )
    made.save("many.json")
    config = {"tokenizer": {"path": "many.json"}, "model": {"vocab_size": 8192}}
    with pytest.raises(
        ConfigError, match=r"model\.vocab_size 8192 is below the 900\d tokens of tokenizer\.path many"
    ):
        plan_line(PipelineConfig.from_dict({"data": {"raw_dir": "raw"}, **config}))


def test_room_for_checkpoints_is_asked_for_by_who_trains_only(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1_000_000))
    config = PipelineConfig.from_dict({"data": {"raw_dir": "raw", "corpus": "directory"}})
    for selection in (Selection(), Selection(until="pretrain"), Selection(only="finetune")):
        with pytest.raises(DiskError, match=r"need about .* GB and 0\.0 GB are free; make room"):
            plan_line(config, selection=selection)
    for selection in (Selection(until="dataset"), Selection(skip=frozenset({"pretrain", "finetune"}))):
        with contextlib.suppress(ConfigError):  # nothing is there yet that could be taken as it is
            plan_line(config, selection=selection)
