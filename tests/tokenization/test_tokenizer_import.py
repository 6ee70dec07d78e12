import functools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from tests.tokenization.foreign import FOREIGN, tiktoken_file, tiktoken_ranks
from tests.tokenization.hostile_text import HAND_PICKED, corpus, many_texts, texts
from tokenization.byte_level import TIKTOKEN_PATTERNS
from tokenization.chat_template import render_chat
from tokenization.special_tokens import SPECIAL_TOKENS
from tokenization.tokenizer import StreamDecoder, Tokenizer
from tokenization.vocabulary import SpecialIds

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

LOSSLESS = ["gpt2", "llama3"]
OWN_PARTS = {
    "gpt2": {"eos"},
    "llama3": {"bos", "eos", "pad"},
    "qwen2": {"eos"},
    "llama2": {"unk", "bos", "eos"},
    "t5": {"unk", "eos", "pad"},
    "bert": {"unk", "bos", "eos", "pad"},
    "words": {"unk"},
}


class Imported:
    """One tokenizer from elsewhere: as its library has it, as we import it, as we load what we saved of it, and as
    transformers loads that."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.path = directory / "their.json"
        FOREIGN[kind]().save(str(self.path))
        self.library = tokenizers.Tokenizer.from_file(str(self.path))
        self.size_before = self.library.get_vocab_size()
        self.library.no_truncation()
        self.library.encode_special_tokens = True
        self.ours = Tokenizer.from_file(self.path)
        self.ours.save(directory / "saved")
        self.again = Tokenizer.from_file(directory / "saved")
        self.theirs = transformers.AutoTokenizer.from_pretrained(directory / "saved")
        self.special = {token["content"] for token in json.loads(self.library.to_str())["added_tokens"]}


@pytest.fixture(scope="session", params=FOREIGN)
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return Imported(request.param, tmp_path_factory.mktemp(request.param))


def plain_texts(imported: Imported, number: int, seed: int) -> list[str]:
    """Hostile texts without the name of a special token, which transformers takes for that token."""
    names = [*imported.special, *SPECIAL_TOKENS]
    candidates = many_texts(number, seed=seed) + corpus(seed=99, num_texts=50)
    return [text for text in candidates if not any(name in text for name in names)]


def test_the_ids_are_those_of_the_library_and_of_transformers(imported: Imported) -> None:
    batch = plain_texts(imported, 3000, seed=20)
    assert len(batch) > 1500
    expected = [one.ids for one in imported.library.encode_batch(batch, add_special_tokens=False)]
    assert imported.ours.encode_batch(batch) == expected
    assert imported.again.encode_batch(batch, num_threads=1) == expected
    assert imported.theirs(batch, add_special_tokens=False)["input_ids"] == expected


def test_decoding_is_that_of_the_library_and_streams(imported: Imported) -> None:
    draw = random.Random(0)
    known = [token for token, length in enumerate(imported.ours.byte_lengths) if length]
    for text in plain_texts(imported, 300, seed=21):
        for ids in (imported.ours.encode(text), draw.choices(known, k=20)):
            expected = imported.library.decode(ids, skip_special_tokens=True)
            decoder = StreamDecoder(imported.ours)
            assert "".join(map(decoder.push, ids)) + decoder.flush() == imported.ours.decode(ids)
            if "\ufffd" not in expected:  # for broken characters the libraries differ in how many they write
                assert imported.ours.decode(ids) == expected


def test_what_is_said_to_come_back_does(imported: Imported) -> None:
    assert imported.ours.lossless == (imported.kind in LOSSLESS)
    for text in many_texts(600, seed=22):
        ids = imported.ours.encode(text)
        if imported.ours.lossless:
            assert imported.ours.decode(ids) == text
            assert int(imported.ours.byte_lengths[ids].sum()) == len(text.encode())
        else:
            assert (
                0 <= int(imported.ours.byte_lengths[ids].sum()) - len(imported.ours.decode(ids).encode()) <= 1
            )


@settings(max_examples=100)
@given(
    text=st.one_of(texts, st.sampled_from(["</s>", "a</s>b<pad>", "EOS [CLS]", "<|endoftext|>", "＜pad＞"]))
)
def test_no_text_encodes_to_a_special_token(imported: Imported, text: str) -> None:
    forbidden = {imported.ours.pieces.index(piece) for piece in imported.ours.pieces if piece.type == 3}
    assert {imported.ours.bos_id, imported.ours.eos_id, imported.ours.end_id} <= forbidden
    assert forbidden.isdisjoint(imported.ours.encode(text))


def test_special_tokens_that_are_missing_are_added_behind(imported: Imported) -> None:
    ours = imported.ours
    special = SpecialIds(
        ours.unk_id, ours.bos_id, ours.eos_id, ours.pad_id, *ours.role_ids.values(), ours.end_id
    )
    assert len(set(special)) == len(special)
    own = {name for name, token in special._asdict().items() if token < imported.size_before}
    assert own == OWN_PARTS[imported.kind]
    assert ours.vocab_size == imported.size_before + len(special) - len(own)
    assert all(ours.byte_lengths[token] == 0 for token in special)
    assert len(imported.theirs) == ours.vocab_size
    loaded = imported.theirs
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (
        ours.bos_id,
        ours.eos_id,
        ours.pad_id,
    )


def test_saved_and_loaded_again_it_is_the_same(imported: Imported) -> None:
    assert imported.again.fingerprint == imported.ours.fingerprint
    assert (imported.again.losses, imported.again.pieces) == (imported.ours.losses, imported.ours.pieces)
    assert imported.again.model_type == imported.ours.model_type == "imported"


def test_a_chat_is_rendered_as_by_transformers(imported: Imported) -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "the iron  is hot\n"},
        {"role": "assistant", "content": "no"},
    ]
    found = imported.theirs.apply_chat_template(messages, tokenize=True, return_dict=False)
    rendered = render_chat(messages, imported.ours).ids
    special = [
        token
        for token in rendered
        if imported.ours.byte_lengths[token] == 0 and token != imported.ours.unk_id
    ]
    assert len(special) == 1 + 2 * len(messages)
    # A text after a special token is the beginning of a text here, and the middle of one there.
    if imported.kind not in ("llama2", "t5"):
        assert found == rendered


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_lost_is_said(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    FOREIGN[kind]().save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_file(tmp_path)
    reasons = {
        "qwen2": "text is normalised (NFC)",
        "llama2": "text is normalised (Prepend, Replace)",
        "t5": "white space is not kept as it is (Metaspace)",
        "bert": "ids are not turned into exactly the text that they came from (WordPiece)",
        "words": "characters or words that are not in the vocabulary become the token for unknown text",
    }
    assert tokenizer.lossless == (kind in LOSSLESS)
    assert ("not every text comes back" in caplog.text) == (kind not in LOSSLESS)
    if kind in reasons:
        assert reasons[kind] in tokenizer.losses and reasons[kind] in caplog.text


def test_the_config_beside_it_names_its_special_tokens(tmp_path: Path) -> None:
    FOREIGN["qwen2"]().save(str(tmp_path / "tokenizer.json"))
    config = {"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}, "bos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.from_file(tmp_path)
    names = [piece.text for piece in tokenizer.pieces]
    assert names[tokenizer.eos_id] == "<|im_end|>"
    assert names[tokenizer.pad_id] == "<|endoftext|>"
    assert names[tokenizer.bos_id] == "<s>"


def changed(kind: str, change: Any) -> bytes:
    content = json.loads(FOREIGN[kind]().to_str())
    change(content)
    return json.dumps(content).encode()


def set_decoder(content: dict[str, Any]) -> None:
    content["decoder"] = {"type": "BPEDecoder", "suffix": "</w>"}


def leave_a_gap(content: dict[str, Any]) -> None:
    content["added_tokens"][-1]["id"] += 3


def make_ordinary(content: dict[str, Any]) -> None:
    vocab, merges = content["model"]["vocab"], content["model"]["merges"]
    vocab["<|user|>"] = vocab.pop("".join(merges.pop()))


def break_model(content: dict[str, Any]) -> None:
    content["model"]["merges"] = [["no", "such"]]


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        (b"{", DataError, "not a tokenizer.json (not valid JSON"),
        (b'{"model": 3}', DataError, "no object under"),
        (
            b'{"model": {"vocab": {}}, "added_tokens": {}}',
            DataError,
            "not a tokenizer.json that Hugging Face",
        ),
        (changed("gpt2", break_model), DataError, "not a tokenizer.json that Hugging Face"),
        (
            changed("gpt2", set_decoder),
            ConfigError,
            "its decoder (BPEDecoder) does not write tokens one by one",
        ),
        (changed("llama3", leave_a_gap), ConfigError, "number the added tokens without gaps"),
        (changed("gpt2", make_ordinary), ConfigError, "'<|user|>' is an ordinary token in it (id "),
    ],
    ids=["json", "vocabulary", "added", "model", "decoder", "gap", "ordinary"],
)
def test_a_tokenizer_json_that_cannot_be_used_says_why(
    tmp_path: Path, content: bytes, error: type[Exception], reason: str
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(error, match=re.escape(str(path)) + ".*" + re.escape(reason)):
        Tokenizer.from_file(path)


def test_a_file_of_the_old_form_is_read_as_one_of_the_new(tmp_path: Path) -> None:
    """As GPT-2's on the hub: no type of the model, empty strings for what there is not, merges as strings."""

    def make_old(content: dict[str, Any]) -> None:
        model = content["model"]
        del model["type"]
        model.update(unk_token="", continuing_subword_prefix="", end_of_word_suffix="")
        model["merges"] = [" ".join(pair) for pair in model["merges"]]
        del content["pre_tokenizer"]["use_regex"]

    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_bytes(changed("gpt2", make_old))
    FOREIGN["gpt2"]().save(str(new))
    ours = Tokenizer.from_file(old)
    assert ours.lossless
    batch = many_texts(500, seed=24)
    assert ours.encode_batch(batch) == Tokenizer.from_file(new).encode_batch(batch)


@functools.cache
def foreign_json(kind: str) -> str:
    return FOREIGN[kind]().to_str()


@settings(max_examples=200)
@given(data=st.data())
def test_a_damaged_tokenizer_json_is_refused_or_used_but_never_crashes(
    data: st.DataObject, tmp_path_factory
) -> None:
    content = json.loads(foreign_json(data.draw(st.sampled_from([*FOREIGN]))))
    place: Any = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys[:12]))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(st.sampled_from([None, 3, "x", [], {}, [3], {"type": "x"}, True, -1]))
    path = tmp_path_factory.mktemp("damaged") / "tokenizer.json"
    path.write_text(json.dumps(content))
    try:
        ours = Tokenizer.from_file(path)
    except (ConfigError, DataError) as error:
        assert str(path) in str(error)
    else:
        ours.decode(ours.encode("the iron is hot"))


def test_a_prefix_that_merges_lack_is_refused_before_the_library_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(changed("gpt2", lambda content: content["model"].update(continuing_subword_prefix="x")))
    with pytest.raises(
        DataError, match=r"continuing_subword_prefix is 'x', but the merge with '.*' .* lacks it"
    ):
        Tokenizer.from_file(path)


def test_dropout_is_switched_off(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(changed("gpt2", lambda content: content["model"].update(dropout=0.5)))
    tokenizer = Tokenizer.from_file(path)
    text = corpus()[0]
    assert tokenizer.encode(text) == FOREIGN["gpt2"]().encode(text).ids


# tiktoken


def their_patterns() -> dict[str, str]:
    """The patterns as the installed tiktoken has them."""
    public = pytest.importorskip("tiktoken_ext.openai_public")
    with pytest.MonkeyPatch.context() as patch:  # the encodings are made without their files
        patch.setattr(public, "load_tiktoken_bpe", lambda *_, **__: {})
        patch.setattr(public, "data_gym_to_mergeable_bpe_ranks", lambda *_, **__: {})
        made = {"gpt2": public.gpt2(), "cl100k": public.cl100k_base(), "o200k": public.o200k_base()}
    return {name: encoding["pat_str"] for name, encoding in made.items()}


@pytest.mark.parametrize("pattern", TIKTOKEN_PATTERNS)
def test_the_ids_are_those_of_tiktoken(pattern: str, tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    ranks = tiktoken_ranks()
    reference = tiktoken.Encoding(
        "test", pat_str=their_patterns()[pattern], mergeable_ranks=ranks, special_tokens={}
    )
    path = tmp_path / "some.tiktoken"
    path.write_bytes(tiktoken_file(ranks))
    ours = Tokenizer.from_file(path, tiktoken_pattern=pattern)
    ours.save(tmp_path / "saved")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    batch = many_texts(3000, seed=23) + corpus(seed=98, num_texts=50)
    batch += ["a" * 300, "\n \n" * 50 + "x", "it's IT'S ſ'ſ 12345 1234", "don't/\n/path\r\n\r\n  x"]
    expected = reference.encode_ordinary_batch(batch)
    assert ours.encode_batch(batch) == expected
    plain = [text for text in batch if not any(name in text for name in SPECIAL_TOKENS)]
    assert theirs(plain, add_special_tokens=False)["input_ids"] == [
        reference.encode_ordinary(text) for text in plain
    ]
    assert all(ours.decode(ids) == text for ids, text in zip(expected, batch, strict=True))
    assert ours.lossless


@pytest.mark.parametrize("pattern", TIKTOKEN_PATTERNS)
def test_every_character_is_cut_as_by_tiktoken(pattern: str) -> None:
    """Neighbours of every sort are joined by the ranks, so a different cut would show in the ids."""
    tiktoken = pytest.importorskip("tiktoken")
    characters = [chr(code) for code in range(0x250) if not 0xD800 <= code < 0xE000] + list(
        "日本мира́\u2028\u3000ǅʰ²½"
    )
    joined = {
        character: [f"{a}{character}{b}" for a in "a1.\n " for b in "a1.\n "] for character in characters
    }
    ranks = {bytes([byte]): byte for byte in range(256)}
    for texts_of_one in joined.values():
        for text in texts_of_one:
            data = text.encode()
            for end in range(2, len(data) + 1):
                ranks.setdefault(data[:end], len(ranks))
    reference = tiktoken.Encoding(
        "test", pat_str=their_patterns()[pattern], mergeable_ranks=ranks, special_tokens={}
    )
    from tokenization.tokenizer_import import import_tiktoken

    ours = Tokenizer(import_tiktoken(tiktoken_file(ranks), pattern))
    batch = [text for texts_of_one in joined.values() for text in texts_of_one]
    assert ours.encode_batch(batch) == reference.encode_ordinary_batch(batch)


def test_a_rank_without_a_token_keeps_its_place(tmp_path: Path) -> None:
    path = tmp_path / "some.tiktoken"
    ranks = tiktoken_ranks()
    path.write_bytes(tiktoken_file(ranks))
    tokenizer = Tokenizer.from_file(path, tiktoken_pattern="gpt2")
    assert tokenizer.pieces[400].text == "<|unused_400|>"
    assert tokenizer.vocab_size == max(ranks.values()) + 1 + 8
    assert 400 not in tokenizer.encode("<|unused_400|>")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"IQ== 0\nIg== x\n", "line 2: expected base64 of a token, a space and its rank, found b'Ig== x'"),
        (b"IQ== 0\nIg 1\n", "line 2: b'Ig' is not base64"),
        (b"IQ== 0\nIQ== 1\n", "line 2: the token b'!' is there already"),
        (b"IQ== 0\nIg== 0\n", "two tokens have one rank"),
        (b"IQ== 0\nIg== 1\n", "no token for the byte 0 (0x00)"),
    ],
)
def test_a_broken_tiktoken_file_is_refused_by_its_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "some.tiktoken"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"{path}: ") + ".*" + re.escape(reason)):
        Tokenizer.from_file(path, tiktoken_pattern="gpt2")


def test_an_unknown_pattern_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "mine.tiktoken"
    path.write_bytes(tiktoken_file(tiktoken_ranks()))
    with pytest.raises(
        ConfigError,
        match=r"none of OpenAI's; set tokenizer\.tiktoken_pattern to gpt2, cl100k, o200k or to a regular",
    ):
        Tokenizer.from_file(path)
    with pytest.raises(DataError, match=r"not a tokenizer\.json that Hugging Face"):
        Tokenizer.from_file(path, tiktoken_pattern="(")
    own = Tokenizer.from_file(path, tiktoken_pattern=r"\S+|\s+")
    for text in HAND_PICKED:
        assert own.decode(own.encode(text)) == text
