import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tokenization.hostile_text import corpus, many_texts
from tests.tokenization.kinds import SENTENCEPIECE, SIZES
from tokenization import model_file
from tokenization.hf_export import merges_of, tokenizer_json
from tokenization.model_file import Field
from tokenization.sentencepiece_encoder import SentencePieceEncoder
from tokenization.special_tokens import SMALLEST_VOCABULARY, SPECIAL_TOKENS
from tokenization.tokenizer import Tokenizer
from tokenization.tokenizer_trainer import TokenizerTrainer

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

EXPORTED = [kind for kind in SIZES if kind != "word"]


def names_a_special_token(text: str) -> bool:
    return any(token in text for token in SPECIAL_TOKENS)


@pytest.fixture(scope="session", params=EXPORTED)
def pair(request: pytest.FixtureRequest, tokenizer_directory: Callable[[str], Path]):
    """Our tokenizer and the one that transformers loads from the same directory."""
    directory = tokenizer_directory(request.param)
    return Tokenizer.from_file(directory), transformers.AutoTokenizer.from_pretrained(directory)


def test_transformers_gives_the_same_ids_and_the_same_text_for_thousands_of_hostile_texts(pair) -> None:
    ours, theirs = pair
    batch = [text for text in many_texts(6000, seed=10) if not names_a_special_token(text)]
    batch += corpus(seed=99, num_texts=100)
    assert len(batch) > 4000
    expected = ours.encode_batch(batch)
    found = theirs(batch, add_special_tokens=False)["input_ids"]
    for text, ours_ids, theirs_ids in zip(batch, expected, found, strict=True):
        assert ours_ids == theirs_ids, ascii(text)
        assert theirs.decode(theirs_ids) == ours.decode(ours_ids, skip_special_tokens=False)
        assert ours.decode(ours_ids) == text or not ours.lossless


def test_real_text_gets_the_same_ids(pair, real_data: Path) -> None:
    ours, theirs = pair
    for path in [
        *sorted((real_data / "markdown").glob("*.md"))[::10],
        *sorted((real_data / "books").glob("*_11__*")),
    ]:
        text = path.read_bytes().decode("utf-8", errors="replace")
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], path


def test_names_of_special_tokens_are_text_in_transformers_too_when_it_is_told_to_split_them(pair) -> None:
    ours, theirs = pair
    for text in [text for text in many_texts(3000, seed=11) if names_a_special_token(text)]:
        found = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert found == ours.encode(text), ascii(text)


def test_a_long_run_without_spaces_gets_the_same_ids(pair) -> None:
    ours, theirs = pair
    draw = random.Random(0)
    text = "".join(draw.choice(["a", "ab", "日本", "語", "aab", "\n", "б", "0"]) for _ in range(20_000))
    assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text)


def test_a_call_puts_the_beginning_of_sequence_in_front_and_can_be_told_not_to(pair) -> None:
    ours, theirs = pair
    plain = ours.encode("the iron")
    assert theirs("the iron")["input_ids"] == ours.encode("the iron", add_bos=True) == [1, *plain]
    assert theirs("the iron", add_special_tokens=False)["input_ids"] == plain
    assert theirs("the", "iron")["input_ids"] == [1, *ours.encode("the"), 1, *ours.encode("iron")]
    assert "token_type_ids" not in theirs("the iron")


def test_special_tokens_are_known_skipped_and_named(pair) -> None:
    ours, theirs = pair
    assert [theirs.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == list(
        range(len(SPECIAL_TOKENS))
    )
    assert (theirs.unk_token_id, theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (
        0,
        1,
        2,
        3,
    )
    assert set(theirs.all_special_tokens) == set(SPECIAL_TOKENS)
    ids = [1, 5, *ours.encode(" a b "), 7, 8, 2]
    assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)
    assert ours.decode(ids) == " a b " or not ours.lossless
    assert theirs.decode(ids) == ours.decode(ids, skip_special_tokens=False)
    if ours.lossless:
        assert theirs.decode(ids) == "<s><|user|> a b <|end|><|reserved_0|></s>"
    assert len(theirs) == ours.vocab_size


def test_the_longest_input_is_stated_only_if_given(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path / "without")
    bpe.save(tmp_path / "with", model_max_length=512)
    load = transformers.AutoTokenizer.from_pretrained
    assert load(tmp_path / "without").model_max_length > 10**9
    assert load(tmp_path / "with").model_max_length == 512


def test_saving_twice_writes_the_same_bytes(pair, tmp_path: Path) -> None:
    ours, _ = pair
    for name in ("one", "two"):
        ours.save(tmp_path / name)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    model = {"tokenizer.model"} if ours.model_type in SENTENCEPIECE else set()
    assert names == {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json"} | model
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_transformers_can_save_what_it_loaded_and_load_it_again(pair, tmp_path: Path) -> None:
    ours, theirs = pair
    theirs.save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in many_texts(300, seed=12):
        if not names_a_special_token(text):
            assert again(text)["input_ids"] == ours.encode(text, add_bos=True)


def test_a_word_model_gets_no_tokenizer_json_and_says_why(
    tokenizer_directory: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tokenizer.json").write_text("of another tokenizer")
    Tokenizer.from_file(tokenizer_directory("word")).save(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    assert "cannot express a word model exactly" in caplog.text
    assert Tokenizer.from_file(tmp_path).model_type == "word"


def synthetic_bpe(base: bytes, merged: list[str]) -> Tokenizer:
    """A BPE tokenizer of the letters a and b with these pieces, the best first."""
    fields = model_file.read_fields(base)
    scored = [*merged, "a", "b", "\u2581"]
    pieces = [
        [
            Field(1, model_file.LENGTH, text.encode()),
            Field(2, model_file.FIXED32, struct.pack("<f", -float(rank))),
        ]
        for rank, text in enumerate(scored)
    ]
    kept = [field for field in fields if field.number == model_file.MODEL_PIECES][:SMALLEST_VOCABULARY]
    rest = [field for field in fields if field.number != model_file.MODEL_PIECES]
    made = [
        Field(model_file.MODEL_PIECES, model_file.LENGTH, model_file.write_fields(piece)) for piece in pieces
    ]
    return Tokenizer(SentencePieceEncoder(model_file.write_fields([*kept, *made, *rest])))


@pytest.mark.parametrize("order", ["as trained", "shuffled"])
def test_merges_rebuilt_from_scores_agree_under_random_vocabularies_of_periodic_text(
    bpe: Tokenizer, order: str
) -> None:
    for seed in range(60):
        draw = random.Random(seed)
        known = ["a", "b"]
        for _ in range(draw.randrange(4, 25)):
            joined = draw.choice(known) + draw.choice(known)
            if len(joined) <= 16 and joined not in known:
                known.append(joined)
        merged = known[2:]
        if order == "shuffled":
            draw.shuffle(merged)
        ours = synthetic_bpe(bpe._encoder.model, merged)
        theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(ours._encoder.parsed)))
        for _ in range(60):
            text = "".join(draw.choice(known) * draw.randrange(1, 6) for _ in range(draw.randrange(1, 8)))
            assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids, (seed, text)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_vocabularies_of_periodic_corpora_agree(kind: str, tmp_path: Path) -> None:
    for seed in range(4):
        draw = random.Random(seed)
        parts = ["a", "b", "ab", "aab", "aba", " ", "abab", "aaa", "  "]
        periodic = ["".join(draw.choice(parts) * draw.randrange(1, 5) for _ in range(100)) for _ in range(10)]
        directory = tmp_path / str(seed)
        trainer = TokenizerTrainer(420, kind, shrink_to_fit=True)
        trainer.train_from_iterator(periodic, "tokenizer", directory)
        ours = Tokenizer.from_file(directory)
        theirs = transformers.AutoTokenizer.from_pretrained(directory)
        for _ in range(500):
            text = "".join(draw.choice(parts) * draw.randrange(1, 9) for _ in range(draw.randrange(1, 30)))
            assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text


def test_every_merge_makes_a_piece_and_comes_in_order_of_the_scores(bpe: Tokenizer) -> None:
    scores = {piece.text.replace("\u2581", " "): piece.score for piece in bpe.pieces}
    made = [scores[left + right] for left, right in merges_of(bpe.pieces)]
    assert made == sorted(made, reverse=True)
    reachable = {left + right for left, right in merges_of(bpe.pieces)}
    longer = {
        text for text, piece in zip(scores, bpe.pieces, strict=True) if piece.type == 1 and len(text) > 1
    }
    assert reachable == longer
