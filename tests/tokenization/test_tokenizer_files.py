import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import tokenization.tokenizer_files as files_module
from core.errors import ConfigError, CorruptArtifactError, DataError, MismatchError
from tests.tokenization.foreign import gpt2_like, sentencepiece_model, tiktoken_file, tiktoken_ranks
from tests.tokenization.kinds import HUGGING_FACE, SIZES
from tokenization.tokenizer import Tokenizer, TokenizerSpec, holds_tokenizer


def copy_of(directory: Path, target: Path) -> Path:
    shutil.copytree(directory, target)
    return target


@pytest.mark.parametrize("kind", SIZES)
def test_a_directory_a_file_and_what_was_saved_are_one_tokenizer(
    tokenizer_directory: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    directory = tokenizer_directory(kind)
    name = "tokenizer.json" if kind in HUGGING_FACE else "tokenizer.model"
    tokenizer = Tokenizer.from_file(directory)
    tokenizer.save(tmp_path / "saved")
    for place in (directory / name, tmp_path / "saved", str(tmp_path / "saved" / name)):
        again = Tokenizer.from_file(place)
        assert (again.fingerprint, again.model_type) == (tokenizer.fingerprint, kind)
    assert holds_tokenizer(directory) and not holds_tokenizer(tmp_path)


def test_the_content_decides_not_the_name(bpe_directory: Path, tmp_path: Path) -> None:
    shutil.copy(bpe_directory / "tokenizer.model", tmp_path / "odd.json")
    gpt2_like().save(str(tmp_path / "odd.model"))
    (tmp_path / "odd.txt").write_bytes(tiktoken_file(tiktoken_ranks()))
    assert Tokenizer.from_file(tmp_path / "odd.json").model_type == "bpe"
    assert Tokenizer.from_file(tmp_path / "odd.model").model_type == "imported"
    assert Tokenizer.from_file(tmp_path / "odd.txt", tiktoken_pattern="gpt2").model_type == "imported"


def test_of_a_foreign_directory_with_both_the_tokenizer_json_is_taken(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model("llama2"))
    alone = Tokenizer.from_file(tmp_path)
    gpt2_like().save(str(tmp_path / "tokenizer.json"))
    both = Tokenizer.from_file(tmp_path)
    assert alone.model_type == both.model_type == "imported"
    assert (
        both.fingerprint == Tokenizer.from_file(tmp_path / "tokenizer.json").fingerprint != alone.fingerprint
    )


def test_a_directory_with_one_model_of_any_name_is_enough(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(sentencepiece_model("t5"))
    assert holds_tokenizer(tmp_path) and Tokenizer.from_file(tmp_path).model_type == "imported"


def test_the_twin_of_a_missing_model_is_not_taken_in_its_stead(bpe_directory: Path, tmp_path: Path) -> None:
    directory = copy_of(bpe_directory, tmp_path / "copy")
    (directory / "tokenizer.model").unlink()
    with pytest.raises(ConfigError, match=r"copy: holds no \.model file; expected tokenizer\.model"):
        Tokenizer.from_file(directory)
    assert Tokenizer.from_file(directory / "tokenizer.json").model_type == "imported"


def test_a_directory_with_one_tiktoken_file_is_enough(tmp_path: Path) -> None:
    (tmp_path / "small.tiktoken").write_bytes(tiktoken_file(tiktoken_ranks()))
    assert Tokenizer.from_file(tmp_path, tiktoken_pattern="cl100k").lossless


def test_the_pattern_of_a_published_file_is_known_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tiktoken_file(tiktoken_ranks())
    (tmp_path / "small.tiktoken").write_bytes(content)
    monkeypatch.setitem(files_module.PATTERN_OF_SHA256, hashlib.sha256(content).hexdigest(), "o200k")
    known = Tokenizer.from_file(tmp_path)
    assert known.fingerprint == Tokenizer.from_file(tmp_path, tiktoken_pattern="o200k").fingerprint


def test_another_kind_saved_into_the_same_directory_replaces_the_first(
    tokenizer_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    for kind in ("bpe", "byte_bpe", "word", "wordpiece", "unigram"):
        Tokenizer.from_file(tokenizer_directory(kind)).save(tmp_path)
        assert Tokenizer.from_file(tmp_path).model_type == kind


@pytest.mark.parametrize("kind", HUGGING_FACE)
def test_every_flipped_bit_of_a_tokenizer_json_is_noticed(
    tokenizer_directory: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    path = copy_of(tokenizer_directory(kind), tmp_path / "copy") / "tokenizer.json"
    whole = path.read_bytes()
    for position in [0, 1, *random.Random(0).sample(range(len(whole)), 64)]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(CorruptArtifactError, match=re.escape(f"{path}: its SHA-256 is ")):
            Tokenizer.from_file(path)
    path.write_bytes(whole[:1000])
    with pytest.raises(CorruptArtifactError, match="its SHA-256 is"):
        Tokenizer.from_file(path.parent)


@pytest.mark.parametrize("entry", [{}, {"special_ids": {"bos": 1}}, {"special_ids": 3}, "odd"])
def test_a_record_without_the_special_tokens_is_refused(
    tokenizer_directory: Callable[[str], Path], tmp_path: Path, entry: object
) -> None:
    directory = copy_of(tokenizer_directory("byte_bpe"), tmp_path / "copy")
    (directory / "tokenizer_config.json").write_text(json.dumps({"bloomery_tokenizer": entry}))
    with pytest.raises(ConfigError, match=r'has no ids of unk, bos, .*"special_ids"; restore that file'):
        Tokenizer.from_file(directory)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    link = tmp_path / "tokenizer.model"
    (tmp_path / "loop").mkdir()
    link.symlink_to(tmp_path / "loop")
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        Tokenizer.from_file(link)
    (tmp_path / "loop" / "tokenizer.json").mkdir()
    with pytest.raises(DataError, match=r"tokenizer\.json: cannot be read \(Is a directory\)"):
        Tokenizer.from_file(tmp_path / "loop")


def loaded_in_worker(spec: TokenizerSpec) -> list[int]:
    return spec.load().encode("the iron")


def test_a_worker_process_loads_the_tokenizer_that_was_meant(
    tokenizer_directory: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = copy_of(tokenizer_directory("bpe"), tmp_path / "copy")
    tokenizer = Tokenizer.from_file(directory)
    spec = TokenizerSpec(directory, tokenizer.fingerprint)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(loaded_in_worker, [spec])[0] == tokenizer.encode("the iron")
    assert spec.load() is spec.load()
    shutil.rmtree(directory)
    copy_of(tokenizer_directory("unigram"), directory)
    changed = TokenizerSpec(directory, "0" * 64)
    with pytest.raises(MismatchError, match=f"was {'0' * 12} when the work began, now it is "):
        changed.load()


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["bpe", "byte_bpe"])
def test_a_kill_during_training_leaves_no_tokenizer_or_a_whole_one(tmp_path: Path, kind: str) -> None:
    code = (
        "import sys\n"
        "from tests.tokenization.hostile_text import corpus\n"
        "from tokenization.tokenizer_trainer import TokenizerTrainer\n"
        "print('ready', flush=True)\n"
        "for seed in range(1000):\n"
        f"    TokenizerTrainer(600, {kind!r}).train_from_iterator(corpus(seed), 'tokenizer', sys.argv[1])\n"
    )
    root = Path(files_module.__file__).parent.parent
    draw = random.Random(0)
    for number in range(4):
        out = tmp_path / str(number)
        with subprocess.Popen(
            [sys.executable, "-c", code, str(out)],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(draw.uniform(0, 0.6))
            os.kill(process.pid, signal.SIGKILL)
        if out.exists() and holds_tokenizer(out):
            assert Tokenizer.from_file(out).vocab_size == 600
