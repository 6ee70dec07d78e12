"""What a tokenizer of Hugging Face's library is made of, and what follows from it: what it loses, what its tokens stand
for, where a text may be cut. Encodes nothing.

The parts are asked of the library and not read in the file, which has had several forms.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from core.errors import ConfigError, DataError
from tokenization.byte_level import BYTE_CHARACTERS, GPT2_PATTERN, cuts_of_pattern, from_characters
from tokenization.chunks import Cuts
from tokenization.special_tokens import BYTE_TOKENS

if TYPE_CHECKING:
    import tokenizers

Step = Mapping[str, Any]

KEEPING_STEPS = {"ByteLevel", "Split", "Digits", "Punctuation", "UnicodeScripts"}
"""Pre-tokenizers that keep every character, unless their behaviour is to remove what they find."""

RARE_CHARACTER = "\U0010fffd"
"""One that no vocabulary has: the last of the private ones."""

EXACT_DECODERS = {"ByteFallback", "Fuse"}
TOKEN_BY_TOKEN_DECODERS = EXACT_DECODERS | {"WordPiece", "Metaspace", "Replace", "Strip"}
"""Decoders that write a token the same wherever it stands, but for the first of a text."""


@dataclass(frozen=True)
class Structure:
    """The parts of a tokenizer.

    Attributes:
        library: The tokenizer itself.
        normalizer, pre_tokenizer, decoder: The steps of each, sequences taken apart; none if there is no such part.
        tokens: Every token with its id, the added ones included.
        special: Those that stand for no text.
        ordinary: The added tokens that are none of those, as the library has them.
    """

    library: "tokenizers.Tokenizer"
    normalizer: Sequence[Step]
    pre_tokenizer: Sequence[Step]
    decoder: Sequence[Step]
    tokens: Mapping[str, int]
    special: Mapping[str, int]
    ordinary: Sequence["tokenizers.AddedToken"]

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """The structure of what the library loads from a tokenizer.json.

        Raises:
            DataError: the library cannot load it; the message has no file name, the caller knows it.
        """
        import tokenizers

        _refuse_merges_without_prefix(content)
        try:
            library = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
            # Some lack a token for what is unknown, which shows only when it is needed.
            library.encode(f"a {RARE_CHARACTER}")
        except Exception as error:  # noqa: BLE001 - the library raises Exception itself, nothing narrower
            version = tokenizers.__version__
            raise DataError(
                f"not a tokenizer.json that Hugging Face tokenizers {version} can load ({error})"
            ) from None
        added = library.get_added_tokens_decoder()
        return cls(
            library=library,
            normalizer=_steps(library.normalizer),
            pre_tokenizer=_steps(library.pre_tokenizer),
            decoder=_steps(library.decoder),
            tokens=library.get_vocab(with_added_tokens=True),
            special={token.content: number for number, token in sorted(added.items()) if token.special},
            ordinary=[token for _, token in sorted(added.items()) if not token.special],
        )

    @property
    def is_byte_level(self) -> bool:
        """Whether tokens are written as characters that stand for bytes."""
        types = _types(self.decoder)
        return types == ["ByteLevel"] or (
            types == ["Replace", "ByteLevel"] and self.continuing_prefix is not None
        )

    @property
    def continuing_prefix(self) -> str | None:
        """What the decoder takes away in front of a token that continues a word, if that is the first thing it does."""
        step = self.decoder[0] if self.decoder else {}
        if step.get("type") != "Replace" or step["content"] != "":
            return None
        prefix: str | None = step["pattern"].get("String")
        # A character for a byte could be in the text itself.
        return prefix if prefix and from_characters(prefix) is None else None

    @property
    def byte_ids(self) -> dict[int, int]:
        """The ids of tokens that spell characters without a token of their own, and the byte of each."""
        if self.is_byte_level:
            # Below 0x80 a byte is a character.
            names = dict(enumerate(BYTE_CHARACTERS[0x80:], start=0x80))
        elif "ByteFallback" in _types(self.decoder):
            names = dict(enumerate(BYTE_TOKENS))
        else:
            return {}
        return {self.tokens[name]: byte for byte, name in names.items() if name in self.tokens}


_A_PREFIX = re.compile(rb'"continuing_subword_prefix"\s*:\s*"[^"]')


def _refuse_merges_without_prefix(content: bytes) -> None:
    """The library cuts the prefix off the second half of each merge without looking whether it is there; where that
    cuts a character in two, it ends the process (0.23).

    Raises:
        DataError: a merge of a model with such a prefix lacks it.
    """
    if _A_PREFIX.search(content) is None:
        return
    try:
        model = json.loads(content)["model"]
        prefix, merges = model["continuing_subword_prefix"], model.get("merges", [])
        seconds = [(merge.split(" ") if isinstance(merge, str) else merge)[1] for merge in merges]
        lacking = [second for second in seconds if not second.startswith(prefix)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return  # of another form: the library says what is wrong
    if lacking:
        raise DataError(
            f"not a usable tokenizer.json: its continuing_subword_prefix is {prefix!r:.40}, but the merge with "
            f"{lacking[0]!r:.40} as second half lacks it"
        )


def losses_of(structure: Structure) -> Iterator[str]:
    """What of a text does not come back: whatever is not known to keep all is named, a sentence each."""
    if structure.normalizer:
        yield f"text is normalised ({', '.join(_types(structure.normalizer))})"
    for step in structure.pre_tokenizer:
        if step["type"] not in KEEPING_STEPS or step.get("behavior") == "Removed":
            yield f"white space is not kept as it is ({step['type']})"
        elif step.get("add_prefix_space"):
            yield "a space is put in front of the text"
    decoders = [] if structure.is_byte_level else _types(structure.decoder)
    if others := [name for name in decoders if name not in EXACT_DECODERS]:
        yield f"ids are not turned into exactly the text that they came from ({', '.join(others)})"
    if not _spells_everything(structure):
        yield "characters or words that are not in the vocabulary become the token for unknown text"
    for token in structure.ordinary:
        if token.lstrip or token.rstrip:
            yield f"white space beside {token.content!r} is dropped"


def token_texts(
    structure: Structure, names: Sequence[str]
) -> tuple[tuple[bytes, ...], tuple[bytes, ...] | None]:
    """The bytes of each of the tokens within a text, and those of each at its beginning if they differ.

    Raises:
        ConfigError: what a token stands for depends on more than whether it is the first.
    """
    if structure.is_byte_level:
        prefix = structure.continuing_prefix or ""
        plain = [name.removeprefix(prefix) for name in names]
        known = [from_characters(name) for name in plain]
        # A token with other characters than those for bytes (an added one) is written as it is.
        return tuple(
            name.encode() if data is None else data for name, data in zip(plain, known, strict=True)
        ), None
    decode = _decoder(structure)
    # After any other token: "a" stands for one that ends in a letter.
    lead = decode(["a"])
    within = tuple(decode(["a", name])[len(lead) :].encode() for name in names)
    opening = tuple(decode([name]).encode() for name in names)
    byte_ids = structure.byte_ids
    within, opening = (
        tuple(bytes([byte_ids[token]]) if token in byte_ids else text for token, text in enumerate(texts))
        for texts in (within, opening)
    )
    return within, None if within == opening else opening


def cuts_of(structure: Structure) -> Cuts | None:
    """Where texts may be cut, if the pre-tokenizer is one whose pattern is known and nothing else looks at text."""
    steps = structure.pre_tokenizer
    if structure.normalizer or structure.ordinary or not steps or steps[-1]["type"] != "ByteLevel":
        return None
    splits = steps[:-1]
    if steps[-1]["add_prefix_space"] or any(
        step["type"] != "Split" or step["behavior"] != "Isolated" or step["invert"] for step in splits
    ):
        return None
    patterns = [step["pattern"].get("Regex", "") for step in splits]
    if steps[-1]["use_regex"]:
        patterns.append(GPT2_PATTERN)
    # The first pattern cuts the text; what the others do, they do within its words.
    return cuts_of_pattern(patterns[0]) if patterns else None


def _decoder(structure: Structure) -> Callable[[list[str]], str]:
    unfit = [step["type"] for step in structure.decoder if step["type"] not in TOKEN_BY_TOKEN_DECODERS]
    # Taking from the end of a text is not known before the end.
    unfit += [step["type"] for step in structure.decoder if step["type"] == "Strip" and step["stop"]]
    if unfit:
        raise ConfigError(
            f"its decoder ({', '.join(unfit)}) does not write tokens one by one, so text could not be streamed; "
            "use another tokenizer"
        )
    decoder = structure.library.decoder
    # Without a decoder the library puts spaces between the tokens.
    return " ".join if decoder is None else decoder.decode


def _spells_everything(structure: Structure) -> bool:
    """Whether every byte that can come up has a token, so that nothing is unknown."""
    model: Any = structure.library.model
    algorithm = type(model).__name__
    if "ByteLevel" not in _types(structure.pre_tokenizer):
        has_fallback = algorithm == "Unigram" or (algorithm == "BPE" and model.byte_fallback)
        return has_fallback and len(structure.byte_ids) == len(BYTE_TOKENS)
    if not structure.is_byte_level:
        return False
    characters = set(BYTE_CHARACTERS)
    if algorithm == "BPE":
        marks_places = model.end_of_word_suffix or model.continuing_subword_prefix
        return not marks_places and structure.tokens.keys() >= characters
    return (
        algorithm == "WordPiece"
        and structure.tokens.keys()
        >= characters | {model.continuing_subword_prefix + one for one in characters}
        and _longest_word_bytes(structure) <= model.max_input_chars_per_word
    )


def _longest_word_bytes(structure: Structure) -> float:
    """Most bytes of a word, where a step of the pre-tokenizer cuts words by their number of characters."""
    splits = (step for step in structure.pre_tokenizer if step["type"] == "Split")
    found = (re.fullmatch(r"\[\\s\\S\]\{1,(\d+)\}", step["pattern"].get("Regex", "")) for step in splits)
    return 4 * min((int(match[1]) for match in found if match), default=float("inf"))


def _steps(part: Any) -> list[Step]:
    """The steps of a part of the library's tokenizer, whether it is a sequence, a single one or none."""
    return [] if part is None else list(_flat(json.loads(part.__getstate__())))


def _flat(step: Step) -> Iterator[Step]:
    if step["type"] != "Sequence":
        yield step
        return
    inner = next(step[key] for key in ("normalizers", "pretokenizers", "decoders") if key in step)
    for one in inner:
        yield from _flat(one)


def _types(steps: Sequence[Step]) -> list[str]:
    return [step["type"] for step in steps]
