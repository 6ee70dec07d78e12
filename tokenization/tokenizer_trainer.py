"""A vocabulary from a corpus, by SentencePiece. Knows nothing of models, datasets or where the corpus came from."""

import heapq
import io
import json
import logging
import math
import os
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import sentencepiece

from core.errors import ConfigError, DataError, VocabularyTooLargeError
from core.files import atomic_write
from core.progress import progress, timed_progress
from core.training_config import TokenizerConfig
from tokenization.hf_export import SCORE_QUANTUM, write_tokenizer_files
from tokenization.model_file import MODEL_TYPES, SPACE_SYMBOL, ModelFile, canonical_model, parse_model
from tokenization.special_tokens import (
    BOS_ID,
    BOS_TOKEN,
    BYTE_TOKENS,
    EOS_ID,
    EOS_TOKEN,
    PAD_ID,
    PAD_TOKEN,
    SMALLEST_VOCABULARY,
    SPECIAL_TOKENS,
    UNK_ID,
    UNK_TOKEN,
)
from tokenization.tokenizer import refuse_surrogates

logger = logging.getLogger(__name__)

DEFAULTS = TokenizerConfig()

CHUNK_CHARACTERS = 4096
"""The corpus is handed over in chunks of at most this many characters. SentencePiece holds a corpus in memory and
drops what is longer than `max_sentence_length` without a word; 4096 is about that default of its own (4192)."""

MAX_CHUNK_BYTES = 4 * CHUNK_CHARACTERS
"""What a chunk of characters of four bytes each takes; nothing is longer, so nothing is dropped."""

UNSPEAKABLE = re.compile(f"[{SPACE_SYMBOL}\u2585]")
"""SentencePiece uses these two characters itself: U+2581 for a space, U+2585 for what is unknown (it skips a
sentence that has one). Training text is cut at them, so both are encoded as their bytes."""

SMALLEST_COVERAGE = 0.98
LONGEST_PIECE = 512
"""SentencePiece's limits (`VerifySpec` in trainer_interface.cc)."""

UNIGRAM_THREADS = 8
"""The unigram trainer adds 32-bit floats thread by thread, so the number of threads changes the vocabulary a
little. It is fixed, because a corpus should give one vocabulary on every machine; on fewer cores threads wait."""

ESCAPES = str.maketrans({c: repr(c)[1:-1] for c in "\\\t\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"})
"""For the .vocab file: what `str.splitlines` or a reader of columns would take for an end, and the backslash."""

UNSEEN_SCORE = -100.0
"""Below every logarithm of a share of a corpus, and still a number in JSON. Arbitrary."""

BYTES_PER_SECOND = {"bpe": 6e6, "unigram": 0.4e6, "char": 20e6, "word": 20e6}
"""Speed of training by algorithm, for the estimate of the time left: SentencePiece 0.2.3 on two cores, 10 to 100 MB."""

SAMPLE_SEED = 0
QUIET = 2
"""SentencePiece's log level for errors only; what matters is said by our own messages."""


class TokenizerTrainer:
    """Trains a vocabulary: the same text and settings give the same bytes, on any number of threads.

    The tokenizer loses nothing: no normalisation, no added or removed spaces, newlines kept, and every character
    without a piece is spelled in bytes.
    """

    def __init__(
        self,
        vocab_size: int,
        model_type: str = DEFAULTS.model_type,
        *,
        character_coverage: float = DEFAULTS.character_coverage,
        split_digits: bool = DEFAULTS.split_digits,
        max_piece_length: int = DEFAULTS.max_piece_length,
        training_bytes: int = DEFAULTS.training_bytes,
        shrink_to_fit: bool = DEFAULTS.shrink_to_fit,
        num_threads: int | None = None,
        text_field: str = "text",
    ) -> None:
        """What to train; nothing is read yet.

        Args:
            vocab_size: Number of tokens, the 16 special and 256 byte tokens included.
            model_type: "bpe", "unigram", "char" or "word".
            character_coverage: Share of the characters of the corpus that get pieces (0.98 to 1).
            split_digits: Whether each digit is a token of its own.
            max_piece_length: Longest piece, in characters (1 to 512).
            training_bytes: At most this much text is used, in bytes of UTF-8, sampled evenly over the corpus.
            shrink_to_fit: Whether a corpus too small for `vocab_size` gets the largest size that it feeds, with a
                warning, instead of an error.
            num_threads: None = one a core.
            text_field: The key of the text in a line of a JSONL corpus.

        Raises:
            ConfigError: a value is out of range.
        """
        known = list(MODEL_TYPES.values())
        _require(
            model_type in known,
            "tokenizer.model_type",
            repr(model_type),
            f"one of {', '.join(sorted(known))}",
        )
        _require(
            vocab_size > SMALLEST_VOCABULARY,
            "data.tokenizer_vocab_size",
            vocab_size,
            f"more than {SMALLEST_VOCABULARY}: {len(SPECIAL_TOKENS)} special and {len(BYTE_TOKENS)} byte tokens are "
            "in every vocabulary",
        )
        _require(
            SMALLEST_COVERAGE <= character_coverage <= 1,
            "tokenizer.character_coverage",
            character_coverage,
            f"{SMALLEST_COVERAGE} to 1",
        )
        _require(
            1 <= max_piece_length <= LONGEST_PIECE,
            "tokenizer.max_piece_length",
            max_piece_length,
            f"1 to {LONGEST_PIECE} characters",
        )
        _require(training_bytes > 0, "tokenizer.training_bytes", training_bytes, "a number of bytes above 0")
        _require(num_threads is None or num_threads > 0, "num_threads", num_threads, "1 or more, or None")
        self.vocab_size = vocab_size
        self.model_type = model_type
        self.character_coverage = character_coverage
        self.split_digits = split_digits
        self.max_piece_length = max_piece_length
        self.training_bytes = training_bytes
        self.shrink_to_fit = shrink_to_fit
        self.num_threads = num_threads or os.cpu_count() or 1
        self.text_field = text_field

    def train_from_jsonl(
        self, jsonl_file: str | Path, output_prefix: str = "tokenizer", output_dir: str | Path = "."
    ) -> tuple[Path, Path]:
        """Train on the texts of a JSONL file; see `train_from_iterator`.

        Raises:
            DataError: as `train_from_iterator`; or the file is missing, or a line is no JSON object with a text
                (the message names file and line).
        """
        return self.train_from_iterator(
            _texts_of_jsonl(Path(jsonl_file), self.text_field),
            output_prefix,
            output_dir,
            origin=str(jsonl_file),
        )

    def train_from_iterator(
        self,
        texts: Iterable[str],
        output_prefix: str = "tokenizer",
        output_dir: str | Path = ".",
        *,
        origin: str = "the corpus",
    ) -> tuple[Path, Path]:
        """Train on `texts` and write the tokenizer into `output_dir`.

        Writes `<output_prefix>.model`, `<output_prefix>.vocab` (one token a line, in order of the ids: piece and
        score, with line ends and tabs escaped) and the files of `Tokenizer.save`.

        Args:
            origin: What the texts are called in messages.

        Returns:
            The paths of the `.model` and of the `.vocab` file.

        Raises:
            DataError: there is no text to learn from.
            VocabularyTooLargeError: the text does not feed `vocab_size` tokens, and `shrink_to_fit` is off.
            ConfigError: `vocab_size` is too small for the characters of the text.
        """
        _require(
            output_prefix not in ("", ".", "..") and Path(output_prefix).name == output_prefix,
            "output_prefix",
            repr(output_prefix),
            "a file name without a directory",
        )
        sample = spread_sample(self._chunks(texts, origin), max_bytes=self.training_bytes)
        if not any(map(bytes.strip, sample)):
            raise DataError(
                f"{origin}: no text to train a tokenizer on; expected at least one text that is not empty"
            )
        num_bytes = sum(map(len, sample))
        logger.info("training a %s vocabulary on %s bytes of text", self.model_type, f"{num_bytes:,}")
        with timed_progress(
            expected_seconds=num_bytes / BYTES_PER_SECOND[self.model_type],
            description="training the tokenizer",
        ):
            model, parsed = self._largest_model(sample, origin)
        directory = Path(output_dir)
        model_path = directory / f"{output_prefix}.model"
        vocab_path = directory / f"{output_prefix}.vocab"
        lines = [f"{piece.text.translate(ESCAPES)}\t{piece.score:g}\n" for piece in parsed.pieces]
        atomic_write(vocab_path, "".join(lines))
        write_tokenizer_files(directory, model=model, parsed=parsed, model_file_name=model_path.name)
        return model_path, vocab_path

    def _chunks(self, texts: Iterable[str], origin: str) -> Iterator[bytes]:
        for number, text in enumerate(texts):
            refuse_surrogates(text, f"{origin}: text {number}")
            for part in UNSPEAKABLE.split(text):
                # A word model has no newline inside a word.
                for line in part.split("\n") if self.model_type == "word" else [part]:
                    yield from (chunk.encode() for chunk in chunks_of(line) if chunk)

    def _largest_model(self, sample: list[bytes], origin: str) -> tuple[bytes, ModelFile]:
        """The model of `vocab_size`, or of the largest size that the sample feeds.

        SentencePiece is trained without its hard limit and gives the pieces that it finds. A unigram vocabulary
        of that size can come out smaller still (pruning starts from the size that is asked for), so a size counts
        as feasible only when training with it gives it.
        """
        size = self.vocab_size
        while True:
            model = canonical_model(self._train(sample, size, origin), round_score=self._round_score)
            parsed = parse_model(model)
            # SentencePiece stops at the coverage even before characters that are required.
            if missing := set(self._required_characters()) - {piece.text for piece in parsed.pieces}:
                raise DataError(
                    f"{origin}: too few different characters for a {self.model_type} vocabulary (no pieces for "
                    f"{''.join(sorted(missing))!r}); add text, or set tokenizer.model_type to bpe"
                )
            if len(parsed.pieces) == size:
                break
            assert len(parsed.pieces) < size
            size = len(parsed.pieces)
        if size < self.vocab_size:
            found = (
                f"data.tokenizer_vocab_size is {self.vocab_size}, but {origin} feeds a {self.model_type} vocabulary "
                f"of at most {size} tokens"
            )
            if not self.shrink_to_fit:
                raise VocabularyTooLargeError(
                    f"{found}; set data.tokenizer_vocab_size to {size} or less, set tokenizer.shrink_to_fit to true, "
                    "or add text",
                    largest=size,
                )
            logger.warning("%s; the vocabulary gets %d tokens (tokenizer.shrink_to_fit)", found, size)
        return model, parsed

    def _train(self, sample: list[bytes], vocab_size: int, origin: str) -> bytes:
        assert all(len(chunk) <= MAX_CHUNK_BYTES for chunk in sample)
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sample),
                model_writer=model,
                model_type=self.model_type,
                vocab_size=vocab_size,
                hard_vocab_limit=False,
                character_coverage=self.character_coverage,
                required_chars=self._required_characters(),
                split_digits=self.split_digits,
                max_sentencepiece_length=self.max_piece_length,
                max_sentence_length=MAX_CHUNK_BYTES,
                input_sentence_size=0,
                num_threads=UNIGRAM_THREADS if self.model_type == "unigram" else self.num_threads,
                byte_fallback=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                add_dummy_prefix=False,
                allow_whitespace_only_pieces=True,
                unk_id=UNK_ID,
                bos_id=BOS_ID,
                eos_id=EOS_ID,
                pad_id=PAD_ID,
                unk_piece=UNK_TOKEN,
                bos_piece=BOS_TOKEN,
                eos_piece=EOS_TOKEN,
                pad_piece=PAD_TOKEN,
                control_symbols=list(SPECIAL_TOKENS[PAD_ID + 1 :]),
                minloglevel=QUIET,
            )
        except RuntimeError as error:
            needed = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
            if needed is None:
                raise DataError(f"{origin}: SentencePiece cannot train on this text: {error}") from error
            raise ConfigError(
                f"data.tokenizer_vocab_size is {vocab_size}, but {needed[1]} tokens are needed for each character of "
                f"{origin} ({SMALLEST_VOCABULARY} special and byte tokens included); set it to {needed[1]} or more, "
                f"or lower tokenizer.character_coverage (now {self.character_coverage})"
            ) from None
        return model.getvalue()

    def _required_characters(self) -> str:
        """Characters that have pieces even if the corpus lacks them: the space, which would else be spelled in
        the bytes of U+2581, and for a unigram model those of the names of tokens (see hf_export)."""
        if self.model_type == "word":
            return ""
        names = SPECIAL_TOKENS + BYTE_TOKENS if self.model_type == "unigram" else ()
        return "".join(sorted({SPACE_SYMBOL, *"".join(names)}))

    def _round_score(self, score: float) -> float:
        if math.isinf(score):  # a character model's logarithm of zero, for a required character
            return UNSEEN_SCORE
        return round(score / SCORE_QUANTUM) * SCORE_QUANTUM if self.model_type == "unigram" else score


def chunks_of(text: str) -> Iterator[str]:
    """`text` in pieces of at most `CHUNK_CHARACTERS`, cut in front of line ends where possible, else of spaces.

    In front, because SentencePiece strips line ends from the end of what it is given.
    """
    start = 0
    while len(text) - start > CHUNK_CHARACTERS:
        limit = start + CHUNK_CHARACTERS
        cut = text.rfind("\n", start + 1, limit)
        if cut == -1:
            cut = text.rfind(" ", start + 1, limit)
        if cut == -1:
            cut = limit
        while cut - 1 > start and text[cut - 1] in "\r\n":
            cut -= 1
        yield text[start:cut]
        start = cut
    yield text[start:]


def spread_sample(chunks: Iterable[bytes], *, max_bytes: int) -> list[bytes]:
    """At most `max_bytes` of `chunks`, each as likely as any other, in their order; all of them if they fit.

    Every chunk draws a number, and the chunks with the highest are put out. One pass, never more than `max_bytes`
    in memory (and one chunk), and the same chunks give the same sample.
    """
    draw = random.Random(SAMPLE_SEED).random
    kept: list[tuple[float, int, bytes]] = []
    size = 0
    for number, chunk in enumerate(chunks):
        heapq.heappush(kept, (-draw(), number, chunk))
        size += len(chunk)
        while size > max_bytes and len(kept) > 1:
            size -= len(heapq.heappop(kept)[2])
    return [chunk for _, _, chunk in sorted(kept, key=lambda entry: entry[1])]


def _texts_of_jsonl(path: Path, text_field: str) -> Iterator[str]:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); expected a JSONL file of texts"
        ) from None
    with path.open("rb") as file, progress(total=size, description="reading the corpus", unit="B") as bar:
        for number, line in enumerate(file, start=1):
            bar.update(len(line))
            if not line.isspace():
                yield _text_of_line(line, text_field, f"{path}:{number}")


def _text_of_line(line: bytes, text_field: str, place: str) -> str:
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not valid JSON ({error}); repair or remove this line") from None
    expected = f'expected {{"{text_field}": "..."}}'
    if not isinstance(record, dict):
        raise DataError(f"{place}: found {type(record).__name__}, {expected}")
    text = record.get(text_field)
    if not isinstance(text, str):
        found = (
            f"a value of type {type(text).__name__} there"
            if text_field in record
            else f"keys {sorted(record)}"
        )
        raise DataError(f"{place}: no text under {text_field!r}: found {found}, {expected}")
    refuse_surrogates(text, place)
    return text


def _require(condition: bool, setting: str, found: object, expected: str) -> None:
    if not condition:
        raise ConfigError(f"{setting} is {found}, expected {expected}")
