import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tokenization.tokenizer_trainer as trainer_module
from core.errors import ConfigError, DataError, VocabularyTooLargeError
from core.training_config import TokenizerConfig
from tests.tokenization.hostile_text import corpus
from tests.tokenization.kinds import LOSSLESS, SIZES
from tokenization.special_tokens import SMALLEST_VOCABULARY
from tokenization.tokenizer import Tokenizer
from tokenization.tokenizer_trainer import SMALLEST_SIZES, TokenizerTrainer

KINDS = [*SIZES]


def train(
    texts: list[str], directory: Path, vocab_size: int = 600, kind: str = "bpe", **settings: object
) -> Tokenizer:
    settings = {"shrink_to_fit": True, **settings}
    model, _ = TokenizerTrainer(vocab_size, kind, **settings).train_from_iterator(
        texts, "tokenizer", directory
    )
    return Tokenizer.from_file(model)


def pieces_of(tokenizer: Tokenizer) -> set[str]:
    return {piece.text for piece in tokenizer.pieces[SMALLEST_VOCABULARY:]}


def write_jsonl(path: Path, records: list[object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_training_writes_the_documented_files_and_returns_their_paths(tmp_path: Path) -> None:
    jsonl = write_jsonl(tmp_path / "texts.jsonl", [{"text": text} for text in corpus()])
    model, vocab = TokenizerTrainer(vocab_size=600, model_type="bpe").train_from_jsonl(
        jsonl_file=str(jsonl), output_prefix="mine", output_dir=str(tmp_path / "out")
    )
    assert (model, vocab) == (tmp_path / "out" / "mine.model", tmp_path / "out" / "mine.vocab")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "chat_template.jinja",
        "mine.model",
        "mine.vocab",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert Tokenizer.from_file(model).vocab_size == Tokenizer.from_file(tmp_path / "out").vocab_size == 600


@pytest.mark.parametrize("kind", KINDS)
def test_the_vocab_file_has_one_line_a_token(tokenizer_directory: Callable[[str], Path], kind: str) -> None:
    tokenizer = Tokenizer.from_file(tokenizer_directory(kind))
    lines = (tokenizer_directory(kind) / "tokenizer.vocab").read_text(encoding="utf-8").splitlines()
    assert len(lines) == tokenizer.vocab_size
    for line, piece in zip(lines, tokenizer.pieces, strict=True):
        text, score = line.split("\t")
        assert text.replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\") == piece.text
        assert float(score) == pytest.approx(piece.score, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_corpus_gives_the_same_bytes_in_another_process_on_another_number_of_threads(
    tmp_path: Path, kind: str
) -> None:
    jsonl = write_jsonl(tmp_path / "texts.jsonl", [{"text": text} for text in corpus(num_texts=60)])
    code = (
        "import sys\n"
        "from tokenization.tokenizer_trainer import SMALLEST_SIZES, TokenizerTrainer\n"
        "kind, size, jsonl, out, threads = sys.argv[1:]\n"
        "TokenizerTrainer(int(size), kind, num_threads=int(threads), shrink_to_fit=True)"
        ".train_from_jsonl(jsonl, 'tokenizer', out)\n"
    )
    root = Path(trainer_module.__file__).parent.parent
    for threads in ("1", "2", "5"):
        out = str(tmp_path / threads)
        command = [sys.executable, "-c", code, kind, str(SIZES[kind]), str(jsonl), out, threads]
        # Hugging Face tokenizers take their number of threads from this variable.
        environment = os.environ | {"RAYON_NUM_THREADS": threads}
        subprocess.run(command, cwd=root, check=True, env=environment, stderr=subprocess.DEVNULL)
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert "tokenizer.json" in names or kind == "word"
    for name in names:
        contents = {(tmp_path / threads / name).read_bytes() for threads in ("1", "2", "5")}
        assert len(contents) == 1, name


def test_training_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for kind in KINDS:
        train([*corpus(num_texts=30), "\u2585", "x" * 30_000], tmp_path / kind, SIZES[kind], kind)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_line_of_20_kb_contributes_pieces(tmp_path: Path, kind: str) -> None:
    line = " ".join(["kiln"] * 4100)
    assert len(line) > 20_000 and "\n" not in line
    tokenizer = train([line], tmp_path / "words", 550, kind)
    assert len(tokenizer.encode(" kiln")) == (5 if kind == "char" else 1)
    if kind != "word":  # no word model has a piece for a part of a word
        unbroken = train(["iron", "ŧŋ" * 10_000], tmp_path / "unbroken", 700, kind)
        num_tokens = len(unbroken.encode("ŧŋ" * 16))
        assert num_tokens == 32 if kind == "char" else num_tokens <= 16


def test_newlines_are_learned_with_what_they_follow(tmp_path: Path) -> None:
    pieces = pieces_of(train(["if x:\nelse:\nend;\n\n" * 500], tmp_path, 400))
    assert ":\n" in pieces and "\n\n" in pieces


def test_training_bytes_bounds_what_is_learned_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="tokenization.tokenizer_trainer")
    train(corpus(), tmp_path, 500, training_bytes=10_000, character_coverage=0.98)
    used = re.search(r"on ([\d,]+) bytes of text", caplog.text)
    assert used is not None and 5_000 < int(used[1].replace(",", "")) <= 10_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["the iron is hot and the hammer is heavy", "b", "日本", "a b\n\nc"])
def test_a_corpus_too_small_names_both_sizes_and_the_named_size_works(
    tmp_path: Path, kind: str, text: str
) -> None:
    with pytest.raises(VocabularyTooLargeError) as caught:
        TokenizerTrainer(8192, kind).train_from_iterator([text], "tokenizer", tmp_path)
    largest = caught.value.largest
    message = str(caught.value)
    assert (
        f"data.tokenizer_vocab_size is 8192, but the corpus feeds a {kind} vocabulary of at most {largest}"
        in message
    )
    assert f"set data.tokenizer_vocab_size to {largest} or less" in message
    assert "tokenizer.shrink_to_fit" in message
    assert not list(tmp_path.iterdir())
    assert train([text], tmp_path, largest, kind, shrink_to_fit=False).vocab_size == largest
    with pytest.raises(VocabularyTooLargeError):
        TokenizerTrainer(largest + 1, kind).train_from_iterator([text], "tokenizer", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_shrinking_gives_the_largest_size_and_says_so(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = train(["the iron is hot"], tmp_path, 8192, kind)
    assert SMALLEST_SIZES[kind][0] < tokenizer.vocab_size < 550
    assert f"the vocabulary gets {tokenizer.vocab_size} tokens (tokenizer.shrink_to_fit)" in caplog.text
    if tokenizer.lossless:
        assert tokenizer.decode(tokenizer.encode(" \u2581 cold 冷")) == " \u2581 cold 冷"


def test_a_vocabulary_below_the_alphabet_names_the_size_that_is_needed(tmp_path: Path) -> None:
    alphabet = "".join(map(chr, range(0x4E00, 0x4E00 + 200)))
    for kind in ("bpe", "unigram"):
        with pytest.raises(ConfigError, match=r"data\.tokenizer_vocab_size is 300, but ") as caught:
            TokenizerTrainer(300, kind, character_coverage=1.0).train_from_iterator(
                [alphabet * 3], "t", tmp_path
            )
        needed = int(
            re.search(r"set it to (\d+) or more, or lower tokenizer.character_coverage", str(caught.value))[1]
        )
        assert (
            train([alphabet * 3], tmp_path / kind, needed, kind, character_coverage=1.0).vocab_size == needed
        )


@pytest.mark.parametrize("texts", [[], [""], [" \n\n ", "\t"], ["\u2581\u2585"]])
def test_an_empty_corpus_is_refused(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(DataError, match="the corpus: no text to train a tokenizer on"):
        TokenizerTrainer(600).train_from_iterator(texts, "tokenizer", tmp_path)
    jsonl = write_jsonl(tmp_path / "empty.jsonl", [{"text": text} for text in texts])
    with pytest.raises(DataError, match=re.escape(f"{jsonl}: no text to train")):
        TokenizerTrainer(600).train_from_jsonl(jsonl, "tokenizer", tmp_path)


def test_a_corpus_without_variety_is_refused_by_unigram_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"too few different characters for a unigram .* to bpe"):
        TokenizerTrainer(600, "unigram", shrink_to_fit=True).train_from_iterator(
            ["aaa aa a"], "tokenizer", tmp_path
        )
    assert train(["aaa aa a"], tmp_path, kind="bpe").decode([272]) == "aa"


def test_text_that_sentencepiece_cannot_use_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the corpus: SentencePiece cannot train on this text"):
        TokenizerTrainer(600, character_coverage=1.0).train_from_iterator(["\x00\x00"], "tokenizer", tmp_path)


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'none.jsonl'}: cannot be read")):
        TokenizerTrainer(600).train_from_jsonl(tmp_path / "none.jsonl", "tokenizer", tmp_path)


def test_a_text_with_a_lone_surrogate_is_named_by_its_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the corpus: text 1: a lone surrogate"):
        TokenizerTrainer(600).train_from_iterator(["fine", "\udfff"], "tokenizer", tmp_path)


def test_the_text_can_lie_under_another_key(tmp_path: Path) -> None:
    jsonl = write_jsonl(tmp_path / "texts.jsonl", [{"body": "the iron is hot"}])
    TokenizerTrainer(400, text_field="body", shrink_to_fit=True).train_from_jsonl(
        jsonl, "tokenizer", tmp_path
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"vocab_size": 272},
            "data.tokenizer_vocab_size is 272, expected 273 or more: every bpe vocabulary has 16 special and 256 byte",
        ),
        (
            {"vocab_size": 527, "model_type": "wordpiece"},
            "data.tokenizer_vocab_size is 527, expected 528 or more: every wordpiece vocabulary has 16 special tokens",
        ),
        (
            {"model_type": "bert"},
            "tokenizer.model_type is 'bert', expected one of bpe, byte_bpe, char, unigram, word, word_level, wordpiece",
        ),
        ({"character_coverage": 0.5}, "tokenizer.character_coverage is 0.5, expected 0.98 to 1"),
        ({"max_piece_length": 0}, "tokenizer.max_piece_length is 0, expected 1 to 512"),
        ({"training_bytes": 0}, "tokenizer.training_bytes is 0, expected a number of bytes above 0"),
        ({"num_threads": 0}, "num_threads is 0, expected 1 or more"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        TokenizerTrainer(**{"vocab_size": 600, **settings})


@pytest.mark.parametrize("prefix", ["", "..", "a/b"])
def test_a_prefix_that_is_a_path_is_refused(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(ConfigError, match="expected a file name without a directory"):
        TokenizerTrainer(600).train_from_iterator(["text"], prefix, tmp_path)


def test_the_defaults_are_those_of_the_configuration() -> None:
    trainer, config = TokenizerTrainer(600), TokenizerConfig()
    for name in (
        *("model_type", "character_coverage", "max_piece_length", "training_bytes"),
        *("split_digits", "split_by_unicode_script"),
    ):
        assert getattr(trainer, name) == getattr(config, name)
    assert trainer.shrink_to_fit == config.shrink_to_fit


def test_digits_and_piece_lengths_follow_the_settings(tmp_path: Path) -> None:
    texts = ["year 2026 and 2027, extraordinarily"] * 50
    split = pieces_of(train(texts, tmp_path / "split", split_digits=True, max_piece_length=4))
    joined = pieces_of(train(texts, tmp_path / "joined", split_digits=False))
    assert not any(len(piece) > 1 and re.search("[0-9]", piece) for piece in split)
    assert any(re.fullmatch("[0-9]{2,}", piece) for piece in joined)
    assert max(map(len, split)) == 4 < max(map(len, joined))


def test_pieces_mix_letters_with_others_where_the_settings_say_so(tmp_path: Path) -> None:
    texts = ["print(x)\n    return self.value, 日本x"] * 50 + corpus()
    apart = pieces_of(train(texts, tmp_path / "apart"))
    mixed = train(texts, tmp_path / "mixed", split_by_unicode_script=False)
    assert not any(re.search(r"[a-z][^\w\s]|[^\w\s\u2581][a-z]", piece) for piece in apart)
    assert any(re.search(r"[a-z][(.]", piece) for piece in pieces_of(mixed))
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "mixed" / "tokenizer.json"))
    theirs.encode_special_tokens = True
    for text in [*texts[50:], *corpus(seed=3)]:
        ids = mixed.encode(text)
        assert mixed.decode(ids) == text
        assert theirs.encode(text, add_special_tokens=False).ids == ids, ascii(text)


def test_names_of_special_tokens_in_the_corpus_leave_no_piece_behind(tmp_path: Path) -> None:
    tokenizer = train(["<|end|><s></s> <0x41> <|user|>" * 200, "iron"], tmp_path)
    assert all(name not in piece for piece in pieces_of(tokenizer) for name in ("<|end|>", "<s>", "<0x41>"))
    assert min(tokenizer.encode("<|end|><s><0x41>")) >= 16


def test_a_corpus_without_a_space_still_keeps_spaces_of_other_texts(tmp_path: Path) -> None:
    for kind in LOSSLESS:
        tokenizer = train(["日本語日本語\n" * 50], tmp_path / kind, 550, kind)
        assert tokenizer.decode(tokenizer.encode(" 日 本\u2581  ")) == " 日 本\u2581  "


def test_an_error_of_the_corpus_iterator_reaches_the_caller(tmp_path: Path) -> None:
    def texts() -> Iterator[str]:
        yield "fine"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        TokenizerTrainer(600).train_from_iterator(texts(), "tokenizer", tmp_path)
    assert not list(tmp_path.iterdir())


def test_training_again_into_the_same_directory_leaves_one_consistent_tokenizer(tmp_path: Path) -> None:
    train(corpus(), tmp_path, 900)
    second = train(["the iron is hot"], tmp_path, 285)
    assert Tokenizer.from_file(tmp_path).fingerprint == second.fingerprint
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert len(vocabulary) == second.vocab_size == 285
