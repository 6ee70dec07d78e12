import itertools
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenization.chunks as chunks_module
import tokenization.tokenizer as tokenizer_module
from core.errors import ConfigError, CorruptArtifactError, DataError
from tests.tokenization.hostile_text import HAND_PICKED, many_texts, texts
from tests.tokenization.kinds import LOSSLESS, SENTENCEPIECE, fresh_copy
from tokenization import model_file
from tokenization.sentencepiece_encoder import SentencePieceEncoder
from tokenization.special_tokens import BYTE_TOKENS, SPECIAL_TOKENS
from tokenization.tokenizer import StreamDecoder, Tokenizer

FIRST_BYTE_ID = len(SPECIAL_TOKENS)
quickly = settings(max_examples=150, deadline=None)


@pytest.fixture(scope="session")
def all_kinds(tokenizer_directory: Callable[[str], Path]) -> list[Tokenizer]:
    return [Tokenizer.from_file(tokenizer_directory(kind)) for kind in LOSSLESS]


@quickly
@given(text=texts)
def test_decoding_what_was_encoded_gives_the_text_back_byte_for_byte(
    all_kinds: list[Tokenizer], text: str
) -> None:
    for tokenizer in all_kinds:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
        assert int(tokenizer.byte_lengths[ids].sum()) == len(text.encode())


@pytest.mark.parametrize("text", HAND_PICKED, ids=ascii)
def test_hostile_texts_come_back_byte_for_byte(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@quickly
@given(text=texts)
def test_no_text_encodes_to_a_special_token(all_kinds: list[Tokenizer], text: str) -> None:
    for tokenizer in all_kinds:
        assert all(token >= len(SPECIAL_TOKENS) for token in tokenizer.encode(text))


def test_the_ids_of_the_special_tokens_are_the_documented_ones(tokenizer: Tokenizer) -> None:
    assert [piece.text for piece in tokenizer.pieces[:8]] == [
        "<unk>",
        "<s>",
        "</s>",
        "<pad>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|end|>",
    ]
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2, 3)
    assert tokenizer.role_ids == {"system": 4, "user": 5, "assistant": 6}
    assert tokenizer.end_id == 7
    assert tokenizer.vocab_size == len(tokenizer.pieces) == len(tokenizer.byte_lengths)


def test_bos_and_eos_are_added_only_when_asked_for(tokenizer: Tokenizer) -> None:
    plain = tokenizer.encode("iron")
    assert tokenizer.encode("iron", add_bos=True) == [1, *plain]
    assert tokenizer.encode("iron", add_eos=True) == [*plain, 2]
    assert tokenizer.encode_batch(["iron", ""], add_bos=True, add_eos=True) == [[1, *plain, 2], [1, 2]]


def test_special_tokens_are_written_by_name_only_when_asked_for(tokenizer: Tokenizer) -> None:
    ids = [1, 5, *tokenizer.encode("a"), 7, 0]
    assert tokenizer.decode(ids) == "a"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<s><|user|>a<|end|><unk>"


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char"])
def test_ids_are_those_of_sentencepiece_for_the_whole_text(
    tokenizer_directory: Callable[[str], Path], kind: str
) -> None:
    path = tokenizer_directory(kind) / "tokenizer.model"
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokenizer = Tokenizer.from_file(path)
    for text in many_texts(3000, seed=1):
        if "\u2581" not in text:  # there SentencePiece reads a space
            assert tokenizer.encode(text) == reference.encode(text), ascii(text)


def test_a_batch_gives_the_ids_of_single_texts_on_any_number_of_threads(tokenizer: Tokenizer) -> None:
    batch = many_texts(400, seed=2)
    single = [tokenizer.encode(text) for text in batch]
    for num_threads in (None, 1, 2, 3):
        fresh = fresh_copy(tokenizer)
        assert fresh.encode_batch(batch, num_threads=num_threads) == single


def test_work_in_blocks_and_forgetting_change_no_id(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = many_texts(300, seed=3)
    batch.append(" ".join(batch))
    expected = [tokenizer.encode(text) for text in batch]
    monkeypatch.setattr(tokenizer_module, "BLOCK_BYTES", 50)
    monkeypatch.setattr(chunks_module, "REMEMBERED_BYTES", 300)
    small = fresh_copy(tokenizer)
    assert [small.encode(text) for text in batch] == expected
    assert small.encode_batch(batch) == expected
    assert sum(map(len, small._memory._remembered)) <= 303  # and U+2581


def test_ids_in_arrays_are_those_of_the_lists(tokenizer: Tokenizer) -> None:
    batch = ["", *many_texts(200, seed=5), "", ""]
    for add_bos, add_eos in itertools.product([False, True], repeat=2):
        expected = tokenizer.encode_batch(batch, add_bos=add_bos, add_eos=add_eos)
        ids, counts = tokenizer.encode_to_array(batch, add_bos=add_bos, add_eos=add_eos)
        assert (ids.dtype, counts.dtype) == (np.int32, np.int64)
        assert ids.tolist() == list(itertools.chain.from_iterable(expected))
        assert counts.tolist() == list(map(len, expected))
    assert tokenizer.encode_to_array([], add_eos=True)[0].tolist() == []


def test_a_word_that_a_word_model_does_not_know_is_spelled_in_bytes(
    tokenizer_directory: Callable[[str], Path],
) -> None:
    tokenizer = Tokenizer.from_file(tokenizer_directory("word"))
    known = {piece.text for piece in tokenizer.pieces}
    assert "▁furnace" in known and "▁xyzzy" not in known
    assert len(tokenizer.encode(" furnace")) == 1
    assert tokenizer.encode(" xyzzy") == [FIRST_BYTE_ID + byte for byte in b" xyzzy"]


@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_the_replaced_space_symbol_is_spelled_in_its_three_bytes(
    tokenizer_directory: Callable[[str], Path], kind: str
) -> None:
    tokenizer = Tokenizer.from_file(tokenizer_directory(kind))
    assert tokenizer.encode("\u2581") == [FIRST_BYTE_ID + byte for byte in (0xE2, 0x96, 0x81)]
    assert tokenizer.encode(" ") != tokenizer.encode("\u2581")


@pytest.mark.parametrize("text", ["\ud800", "ok \udfff", "x" * 5000 + "\udc80"])
def test_a_lone_surrogate_is_refused_with_its_place(tokenizer: Tokenizer, text: str) -> None:
    place = next(i for i, c in enumerate(text) if 0xD800 <= ord(c) < 0xE000)
    pattern = rf"the text: a lone surrogate U\+{ord(text[place]):04X} at character {place},"
    with pytest.raises(DataError, match=pattern):
        tokenizer.encode(text)
    with pytest.raises(DataError, match="text 1 of the batch: a lone surrogate"):
        tokenizer.encode_batch(["fine", text])


@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_an_id_outside_the_vocabulary_is_refused(bpe: Tokenizer, wrong: int) -> None:
    with pytest.raises(
        DataError, match=f"token id {wrong} is outside the vocabulary of {bpe.vocab_size} tokens"
    ):
        bpe.decode([5, wrong])
    with pytest.raises(DataError, match=f"token id {wrong}"):
        StreamDecoder(bpe).push(wrong)


def test_decoding_takes_numpy_arrays(bpe: Tokenizer) -> None:
    assert bpe.decode(np.array(bpe.encode("the iron"), dtype=np.uint16)) == "the iron"


def test_byte_lengths_cannot_be_changed_by_accident(bpe: Tokenizer) -> None:
    assert bpe.byte_lengths.dtype == np.int32
    assert bpe.byte_lengths[: len(SPECIAL_TOKENS)].sum() == 0
    with pytest.raises(ValueError, match="read-only"):
        bpe.byte_lengths[0] = 1


def test_invalid_bytes_become_replacement_characters(bpe: Tokenizer) -> None:
    ids = [FIRST_BYTE_ID + byte for byte in (0xE2, 0x96)]
    assert bpe.decode([*bpe.encode("a"), *ids, *bpe.encode("b")]) == b"a\xe2\x96b".decode(errors="replace")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_streamed_text_joined_is_the_decoded_text_for_any_ids(bpe: Tokenizer, data: st.DataObject) -> None:
    some_bytes = st.integers(FIRST_BYTE_ID + 0x80, FIRST_BYTE_ID + 0xFF)
    ids = data.draw(st.lists(st.one_of(some_bytes, st.integers(0, bpe.vocab_size - 1)), max_size=30))
    skip = data.draw(st.booleans())
    decoder = StreamDecoder(bpe, skip_special_tokens=skip)
    parts = [decoder.push(token) for token in ids]
    assert "".join(parts) + decoder.flush() == bpe.decode(ids, skip_special_tokens=skip)
    assert decoder.flush() == ""


def test_a_character_is_streamed_when_its_last_byte_arrives(bpe: Tokenizer) -> None:
    decoder = StreamDecoder(bpe)
    euro = [FIRST_BYTE_ID + byte for byte in "€".encode()]
    assert [decoder.push(token) for token in euro] == ["", "", "€"]
    assert decoder.push(euro[0]) == ""
    assert decoder.flush() == "\ufffd"


def test_saved_and_loaded_again_it_is_the_same_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "deep" / "down")
    again = Tokenizer.from_file(tmp_path / "deep" / "down")
    assert again.fingerprint == tokenizer.fingerprint
    assert again.pieces == tokenizer.pieces
    assert again.model_type == tokenizer.model_type


def test_the_fingerprint_changes_with_a_piece_a_score_and_a_setting(bpe: Tokenizer) -> None:
    fields = model_file.read_fields(bpe._encoder.model)
    pieces = [index for index, field in enumerate(fields) if field.number == model_file.MODEL_PIECES]

    def with_last_piece(text: bytes, score: bytes) -> str:
        inner = [model_file.Field(1, model_file.LENGTH, text), model_file.Field(2, model_file.FIXED32, score)]
        changed = list(fields)
        changed[pieces[-1]] = fields[pieces[-1]]._replace(value=model_file.write_fields(inner))
        return Tokenizer(SentencePieceEncoder(model_file.write_fields(changed))).fingerprint

    zero, one = bytes(4), np.float32(1).tobytes()
    found = {
        bpe.fingerprint,
        with_last_piece(b"zq", zero),
        with_last_piece(b"qz", zero),
        with_last_piece(b"zq", one),
    }
    assert len(found) == 4


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'none.model'}: no such tokenizer")):
        Tokenizer.from_file(tmp_path / "none.model")
    with pytest.raises(ConfigError, match=r"holds no tokenizer; expected tokenizer\.model"):
        Tokenizer.from_file(tmp_path)


def test_a_directory_with_two_other_models_is_not_guessed_about(bpe_directory: Path, tmp_path: Path) -> None:
    for name in ("one.model", "two.model"):
        shutil.copy(bpe_directory / "tokenizer.model", tmp_path / name)
    with pytest.raises(ConfigError, match=r"holds one\.model, two\.model; expected"):
        Tokenizer.from_file(tmp_path)
    (tmp_path / "two.model").unlink()
    assert Tokenizer.from_file(tmp_path).vocab_size > 0


def test_every_flipped_bit_is_noticed(bpe_directory: Path, tmp_path: Path) -> None:
    for file in bpe_directory.iterdir():
        shutil.copy(file, tmp_path)
    path = tmp_path / "tokenizer.model"
    whole = path.read_bytes()
    for position in random.Random(0).sample(range(len(whole)), 64):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(CorruptArtifactError, match=re.escape(f"{path}: its SHA-256 is ")):
            Tokenizer.from_file(path)


def test_a_truncated_model_without_a_recorded_hash_is_refused_or_whole(
    bpe_directory: Path, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.model"
    whole = (bpe_directory / "tokenizer.model").read_bytes()
    for length in [0, 1, 2, *range(3, len(whole), 501)]:
        path.write_bytes(whole[:length])
        with pytest.raises((DataError, ConfigError), match=re.escape(str(path))):
            Tokenizer.from_file(path)


@pytest.mark.parametrize("content", [b"", b"hello world, no model", b"\xff" * 100, b"[]", bytes(100)])
def test_a_file_that_is_no_model_is_called_that(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a SentencePiece model"):
        Tokenizer.from_file(path)


def test_a_broken_tokenizer_config_is_named(bpe_directory: Path, tmp_path: Path) -> None:
    shutil.copy(bpe_directory / "tokenizer.model", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json: not valid JSON"):
        Tokenizer.from_file(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"sentencepiece_sha256": ["odd"]}))
    assert Tokenizer.from_file(tmp_path).vocab_size > 0


@pytest.mark.parametrize(
    ("settings_of_sentencepiece", "objection"),
    [
        ({}, "normalizes is True"),
        ({"normalization_rule_name": "identity"}, "add_dummy_prefix is True"),
        ({"byte_fallback": False}, "byte_fallback is False"),
        ({"remove_extra_whitespaces": True}, "remove_extra_whitespaces is True"),
        ({}, "its first tokens are"),
    ],
)
def test_a_model_that_would_lose_text_is_none_of_ours_and_taken_as_one_from_elsewhere(
    tmp_path: Path, settings_of_sentencepiece: dict[str, object], objection: str
) -> None:
    path = tmp_path / "foreign.model"
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["the iron is hot", "strike the iron"]),
            model_writer=file,
            vocab_size=30,
            hard_vocab_limit=False,
            minloglevel=2,
            **settings_of_sentencepiece,
        )
    with pytest.raises(ConfigError, match=re.escape(objection)):
        SentencePieceEncoder(path.read_bytes())
    tokenizer = Tokenizer.from_file(path)
    assert tokenizer.model_type == "imported" and not tokenizer.lossless


def test_a_model_without_a_piece_for_the_space_or_with_pieces_over_spaces_is_refused(bpe: Tokenizer) -> None:
    fields = model_file.read_fields(bpe._encoder.model)
    space = next(i for i, f in enumerate(fields) if f.number == 1 and bpe.pieces[i].text == "\u2581")

    def replaced(text: str) -> bytes:
        inner = [model_file.Field(1, model_file.LENGTH, text.encode()), model_file.Field(2, 5, bytes(4))]
        changed = list(fields)
        changed[space] = fields[space]._replace(value=model_file.write_fields(inner))
        return model_file.write_fields(changed)

    with pytest.raises(ConfigError, match="no piece for the space"):
        SentencePieceEncoder(replaced("zq"))
    with pytest.raises(ConfigError, match="'z▁q' has a space after a letter"):
        SentencePieceEncoder(replaced("z\u2581q"))


def test_the_byte_tokens_have_the_names_that_others_use() -> None:
    assert BYTE_TOKENS[0] == "<0x00>" and BYTE_TOKENS[0xAB] == "<0xAB>"


def test_importing_the_room_loads_no_heavy_library() -> None:
    code = (
        "import sys, tokenization.tokenizer_trainer, tokenization.chat_template\n"
        "print([name for name in ('torch', 'transformers', 'tokenizers', 'datasets', 'google.protobuf') "
        "if name in sys.modules])"
    )
    root = Path(tokenizer_module.__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
    assert result.stderr == ""


def test_many_threads_share_one_tokenizer(bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(chunks_module, "REMEMBERED_BYTES", 2000)
    batch = many_texts(400, seed=4)
    expected = bpe.encode_batch(batch)
    shared = fresh_copy(bpe)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(shared.encode, itertools.chain(batch, batch)))
    assert found == expected * 2
