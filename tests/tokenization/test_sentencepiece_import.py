"""SentencePiece models that were trained elsewhere, with other options than ours, against SentencePiece itself."""

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, CorruptArtifactError, DataError
from tests.tokenization.foreign import SENTENCEPIECE, sentencepiece_model
from tests.tokenization.hostile_text import corpus, many_texts, texts
from tokenization import model_file
from tokenization.chat_template import render_chat
from tokenization.model_file import Field
from tokenization.sentencepiece_import import ForeignSentencePieceEncoder
from tokenization.special_tokens import SPECIAL_TOKENS
from tokenization.tokenizer import StreamDecoder, Tokenizer
from tokenization.vocabulary import SpecialIds

transformers = pytest.importorskip("transformers")

WITHOUT_TWIN = {"word": "it is a word model", "gemma": "it has user-defined symbols"}
EXACT_TWINS = ["llama2", "bare", "spaces"]
KEEPING = ["llama2", "bare", "unigram", "gemma"]
"""Kinds that give back every text without U+2581."""

NAMES = re.compile("|".join([*map(re.escape, SPECIAL_TOKENS), "<0x[0-9A-F]{2}>"]))


class Imported:
    """One model from elsewhere: as SentencePiece has it, as we import it, as we load what we saved of it."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        model = sentencepiece_model(kind)
        self.path = directory / "their.model"
        self.path.write_bytes(model)
        self.reference = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.ours = Tokenizer.from_file(self.path)
        self.saved = directory / "saved"
        self.ours.save(self.saved, model_max_length=99)
        self.again = Tokenizer.from_file(self.saved)

    @functools.cached_property
    def theirs(self) -> Any:
        return transformers.AutoTokenizer.from_pretrained(self.saved)


@functools.cache
def model_of(kind: str) -> bytes:
    return sentencepiece_model(kind)


@pytest.fixture(scope="session", params=SENTENCEPIECE)
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return Imported(request.param, tmp_path_factory.mktemp(request.param))


def test_the_ids_are_those_of_sentencepiece(imported: Imported) -> None:
    batch = many_texts(3000, seed=30) + corpus(seed=31, num_texts=50)
    expected = imported.reference.encode(batch)
    assert imported.ours.encode_batch(batch) == expected
    assert imported.again.encode_batch(batch, num_threads=1) == expected
    assert [imported.ours.encode(text) for text in batch[:50]] == expected[:50]


def test_decoding_is_that_of_sentencepiece_and_streams(imported: Imported) -> None:
    for text in many_texts(1000, seed=32):
        ids = imported.ours.encode(text)
        decoder = StreamDecoder(imported.ours)
        assert "".join(map(decoder.push, ids)) + decoder.flush() == imported.ours.decode(ids)
        # SentencePiece writes a sign for what is unknown, and takes away more than one space at the beginning, which
        # only U+2581 in a text can bring about.
        if imported.reference.unk_id() not in ids and "\u2581" not in text:
            assert imported.ours.decode(ids) == imported.reference.decode(ids)


def test_what_is_said_to_come_back_does(imported: Imported) -> None:
    assert not imported.ours.lossless
    is_keeping = imported.ours.losses == ("the character \u2581 (U+2581) becomes a space",)
    assert is_keeping == (imported.kind in KEEPING)
    for text in many_texts(1000, seed=33):
        ids = imported.ours.encode(text)
        decoded = imported.ours.decode(ids)
        if is_keeping:
            assert decoded == text.replace("\u2581", " ")
        size = int(imported.ours.byte_lengths[ids].sum())
        assert 0 <= size - len(decoded.encode()) <= 1


@settings(max_examples=100)
@given(text=st.one_of(texts, st.sampled_from([*SPECIAL_TOKENS, "a</s>b<pad>", "＜/s＞"])))
def test_no_text_encodes_to_a_special_token(imported: Imported, text: str) -> None:
    ours = imported.ours
    forbidden = {ours.bos_id, ours.eos_id, ours.pad_id, ours.end_id, *ours.role_ids.values()}
    assert forbidden.isdisjoint(ours.encode(text))


def test_its_own_tokens_keep_their_ids_and_those_it_lacks_come_behind(imported: Imported) -> None:
    ours, reference = imported.ours, imported.reference
    for token in range(reference.vocab_size()):
        assert (ours.pieces[token].text, ours.pieces[token].score) == (
            reference.id_to_piece(token),
            reference.get_score(token),
        )
    special = SpecialIds(
        ours.unk_id, ours.bos_id, ours.eos_id, ours.pad_id, *ours.role_ids.values(), ours.end_id
    )
    assert len(set(special)) == len(special)
    own = {name: token for name, token in special._asdict().items() if token < reference.vocab_size()}
    if imported.kind == "t5":
        assert own == {"pad": 0, "eos": 1, "unk": 2}
    else:
        assert own == {"unk": 0, "bos": 1, "eos": 2}
    assert ours.vocab_size == reference.vocab_size() + len(special) - len(own)
    assert all(ours.byte_lengths[token] == 0 for token in special)


def test_saved_and_loaded_again_it_is_the_same(imported: Imported, caplog: pytest.LogCaptureFixture) -> None:
    again = Tokenizer.from_file(imported.saved)
    assert again.fingerprint == imported.ours.fingerprint
    assert (again.losses, again.pieces) == (imported.ours.losses, imported.ours.pieces)
    assert again.model_type == "imported"
    assert not caplog.records  # what is lost was said at the import
    other = Tokenizer(ForeignSentencePieceEncoder(model_of("t5" if imported.kind != "t5" else "nfkc"), {}))
    assert other.fingerprint != again.fingerprint


def test_transformers_gives_the_same_ids_where_that_is_promised(imported: Imported) -> None:
    if imported.kind in WITHOUT_TWIN:
        assert not (imported.saved / "tokenizer.json").exists()
        return
    candidates = many_texts(3000, seed=34) if imported.kind in EXACT_TWINS else []
    # transformers takes the names of special tokens for those.
    batch = [text for text in candidates + corpus(seed=35, num_texts=100) if not NAMES.search(text)]
    found = imported.theirs(batch, add_special_tokens=False)["input_ids"]
    assert found == imported.reference.encode(batch)
    for ids in found:
        decoded = imported.ours.decode(ids)
        if "\ufffd" not in decoded:
            assert imported.theirs.decode(ids, skip_special_tokens=True) == decoded


def test_a_chat_is_rendered_as_by_transformers(imported: Imported) -> None:
    if imported.kind in WITHOUT_TWIN:
        return
    messages = [
        {"role": "system", "content": "the heat"},
        {"role": "user", "content": "the iron  is heated\n"},
        {"role": "assistant", "content": "heat"},
    ]
    rendered = render_chat(messages, imported.ours).ids
    assert imported.theirs.apply_chat_template(messages, tokenize=True, return_dict=False) == rendered
    assert imported.theirs("the iron")["input_ids"] == imported.ours.encode("the iron", add_bos=True)
    assert imported.theirs.model_max_length == 99


@pytest.mark.parametrize(
    ("kind", "losses"),
    [
        ("llama2", []),
        (
            "spaces",
            ["of spaces in a row one is kept", "characters that are not in the vocabulary become the token"],
        ),
        (
            "nfkc",
            ["text is normalised (nfkc)", "of spaces in a row", "characters that are not in the vocabulary"],
        ),
        (
            "t5",
            [
                "text is normalised (nmt_nfkc)",
                "of spaces in a row",
                "characters that are not in the vocabulary",
            ],
        ),
    ],
)
def test_what_is_lost_is_said(
    kind: str, losses: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model_of(kind))
    found = Tokenizer.from_file(tmp_path).losses
    assert len(found) == len(losses) + 1
    assert all(part in sentence for part, sentence in zip(losses, found, strict=False))
    assert f"not every text comes back: {'; '.join(found)}" in caplog.text


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        *WITHOUT_TWIN.items(),
        ("nfkc", "its normalisation (nfkc) is done character by character there"),
        ("t5", "equally good to six digits"),
        ("unigram", "a text that spells the name of a byte token, such as <0x41>, becomes that token"),
        ("llama2", None),
        ("spaces", None),
    ],
)
def test_what_transformers_does_otherwise_is_said(
    kind: str, said: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x.model").write_bytes(model_of(kind))
    tokenizer = Tokenizer.from_file(tmp_path / "x.model")
    assert ("x.model: transformers " in caplog.text) == (said is not None)
    assert said is None or said in caplog.text
    caplog.clear()
    tokenizer.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "tokenizer.json").exists() == (kind not in WITHOUT_TWIN)
    Tokenizer.from_file(tmp_path / "saved")
    assert not caplog.records  # it is said once


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda model: model_file.canonical_model(model, round_score=lambda score: score // 2),
            "two of its pieces have one score",
        ),
        (
            lambda model: changed_piece(model, "▁heat", {model_file.PIECE_TYPE: model_file.PieceType.UNUSED}),
            "it has pieces that are marked as unused",
        ),
    ],
    ids=["equal", "unused"],
)
def test_an_odd_model_has_no_twin_and_its_own_ids(
    change: Callable[[bytes], bytes], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = change(model_of("llama2"))
    (tmp_path / "x.model").write_bytes(model)
    tokenizer = Tokenizer.from_file(tmp_path / "x.model")
    assert f"transformers cannot load it, because no tokenizer.json does the same: {said}" in caplog.text
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert tokenizer.encode("the heat") == reference.encode("the heat")
    tokenizer.save(tmp_path / "saved")
    assert not (tmp_path / "saved" / "tokenizer.json").exists()


def changed_piece(model: bytes, text: str, values: Mapping[int, int]) -> bytes:
    """The model with other numbers in the fields of one piece."""

    def changed(field: Field) -> Field:
        if (
            field.number != model_file.MODEL_PIECES
            or model_file.parse_model(model_file.write_fields([field])).pieces[0].text != text
        ):
            return field
        assert isinstance(field.value, bytes)
        kept = [inner for inner in model_file.read_fields(field.value) if inner.number not in values]
        added = [Field(number, model_file.VARINT, value) for number, value in values.items()]
        return field._replace(value=model_file.write_fields([*kept, *added]))

    fields = model_file.read_fields(model)
    made = [changed(field) for field in fields]
    assert made != fields
    return model_file.write_fields(made)


def with_setting(model: bytes, section: int, number: int, value: int | bytes) -> bytes:
    """The model with one more field in one of its sections, which holds over what was there."""
    kind = model_file.VARINT if isinstance(value, int) else model_file.LENGTH
    inner = model_file.write_fields([Field(number, kind, value)])
    return model + model_file.write_fields([Field(section, model_file.LENGTH, inner)])


@pytest.mark.parametrize(
    ("section", "number", "value", "reason"),
    [
        (
            model_file.MODEL_TRAINER,
            model_file.TRAINER_SUFFIX,
            1,
            "puts spaces behind words .*could not be streamed",
        ),
        (model_file.MODEL_NORMALIZER, model_file.NORMALIZER_ESCAPE, 0, "does not write spaces as ▁"),
        (model_file.MODEL_DENORMALIZER, model_file.NORMALIZER_CHARSMAP, b"x", "rewrites text after decoding"),
    ],
)
def test_a_model_that_cannot_be_used_says_why_and_what_to_do(
    tmp_path: Path, section: int, number: int, value: int | bytes, reason: str
) -> None:
    (tmp_path / "x.model").write_bytes(with_setting(model_of("llama2"), section, number, value))
    with pytest.raises(
        ConfigError, match=rf"x\.model: a SentencePiece model that cannot be .*{reason}.*\. Name the "
    ):
        Tokenizer.from_file(tmp_path / "x.model")


def test_a_model_without_a_token_for_unknown_text_is_refused(tmp_path: Path) -> None:
    model = changed_piece(model_of("llama2"), "<unk>", {model_file.PIECE_TYPE: 3})
    (tmp_path / "x.model").write_bytes(model)
    with pytest.raises(ConfigError, match=r"x\.model: .*it has 0 tokens for unknown text \(expected 1\)"):
        Tokenizer.from_file(tmp_path / "x.model")


def test_a_model_that_sentencepiece_cannot_load_is_refused(tmp_path: Path) -> None:
    model = model_file.canonical_model(
        model_of("llama2"), round_score=lambda score: score, rename=lambda text: "a" if text == "b" else text
    )
    (tmp_path / "x.model").write_bytes(model)
    with pytest.raises(DataError, match=r"x\.model: not a SentencePiece model \(.*a is already defined"):
        Tokenizer.from_file(tmp_path / "x.model")


def test_a_name_of_ours_that_stands_for_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(sentencepiece_model("llama2", user_defined_symbols=["<|user|>"]))
    with pytest.raises(ConfigError, match=r"x\.model: '<\|user\|>' is an ordinary token in it \(id 3\)"):
        Tokenizer.from_file(tmp_path / "x.model")


def test_the_model_and_the_config_beside_it_name_its_special_tokens(tmp_path: Path) -> None:
    model = sentencepiece_model(
        "llama2", bos_piece="[GO]", eos_piece="[STOP]", control_symbols=["<turn>", "<|end|>"]
    )
    (tmp_path / "x.model").write_bytes(model)
    tokenizer = Tokenizer.from_file(tmp_path / "x.model")
    names = [piece.text for piece in tokenizer.pieces]
    assert [names[tokenizer.bos_id], names[tokenizer.eos_id]] == ["[GO]", "[STOP]"]
    assert names.index("<|end|>") == tokenizer.end_id < tokenizer.role_ids["user"]
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "<turn>"}}')
    configured = Tokenizer.from_file(tmp_path / "x.model")
    assert configured.eos_id == names.index("<turn>")
    assert configured.bos_id == tokenizer.bos_id
    configured.save(tmp_path / "saved")
    assert Tokenizer.from_file(tmp_path / "saved").fingerprint == configured.fingerprint


def test_a_flipped_bit_of_what_was_saved_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(model_of("t5"))
    Tokenizer.from_file(tmp_path / "x.model").save(tmp_path / "saved")
    path = tmp_path / "saved" / "tokenizer.model"
    data = bytearray(path.read_bytes())
    data[100] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match=r"tokenizer\.model: its SHA-256 is"):
        Tokenizer.from_file(tmp_path / "saved")


def test_many_threads_give_the_same_ids() -> None:
    tokenizer = Tokenizer(ForeignSentencePieceEncoder(model_of("llama2"), {}))
    batch = corpus(seed=36, num_texts=100)
    assert sum(map(len, batch)) > 20_000
    assert tokenizer.encode_batch(batch, num_threads=4) == tokenizer.encode_batch(batch, num_threads=1)
