"""A vocabulary from a corpus: a sample of it, one of the algorithms, and the files. Knows nothing of models, of
datasets, or of where the corpus came from."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from core.errors import ConfigError, DataError, VocabularyTooLargeError
from core.files import atomic_write
from core.progress import timed_progress
from core.training_config import TokenizerConfig
from tokenization.byte_pieces import LONGEST_PIECE
from tokenization.corpus_sample import sample_jsonl, sample_texts
from tokenization.json_trainer import train_byte_bpe, train_word_level, train_wordpiece
from tokenization.sentencepiece_trainer import UNSPEAKABLE, train_sentencepiece
from tokenization.special_tokens import BYTE_TOKENS, SMALLEST_VOCABULARY, SPECIAL_TOKENS
from tokenization.vocabulary import Encoder, Vocabulary
from tokenization.vocabulary_settings import VocabularySettings

logger = logging.getLogger(__name__)

DEFAULTS = TokenizerConfig()

ALGORITHMS: Mapping[str, Callable[[list[bytes], VocabularySettings, str], Encoder]] = {
    "bpe": train_sentencepiece,
    "unigram": train_sentencepiece,
    "char": train_sentencepiece,
    "word": train_sentencepiece,
    "byte_bpe": train_byte_bpe,
    "wordpiece": train_wordpiece,
    "word_level": train_word_level,
}
"""Value of `tokenizer.model_type` to what makes the largest vocabulary up to the size asked for out of a sample (chunks
of UTF-8, which it may consume) and the name of the corpus."""

_WITH_BYTES = f"{len(SPECIAL_TOKENS)} special and {len(BYTE_TOKENS)} byte tokens"
SMALLEST_SIZES: Mapping[str, tuple[int, str]] = {
    **dict.fromkeys(
        ("bpe", "unigram", "char", "word"), (SMALLEST_VOCABULARY + 1, f"{_WITH_BYTES}, and a piece")
    ),
    "byte_bpe": (SMALLEST_VOCABULARY, _WITH_BYTES),
    "wordpiece": (
        SMALLEST_VOCABULARY + len(BYTE_TOKENS),
        f"{len(SPECIAL_TOKENS)} special tokens and two for each byte, at the beginning of a word and within it",
    ),
    "word_level": (len(SPECIAL_TOKENS) + 1, f"{len(SPECIAL_TOKENS)} special tokens, and a word"),
}
"""Algorithm to the size of its smallest vocabulary, in tokens, and why."""

BYTES_PER_SECOND = {
    "bpe": 15e6,
    "unigram": 0.4e6,
    "char": 20e6,
    "word": 15e6,
    "byte_bpe": 10e6,
    "wordpiece": 10e6,
    "word_level": 10e6,
}
"""Speed of training by algorithm, for the estimate of the time left: two cores, 10 to 100 MB, 2026."""

SMALLEST_COVERAGE = 0.98
"""SentencePiece's limit (`VerifySpec` in trainer_interface.cc)."""

ESCAPES = str.maketrans({c: repr(c)[1:-1] for c in "\\\t\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"})
"""For the .vocab file: what `str.splitlines` or a reader of columns would take for an end, and the backslash."""


class TokenizerTrainer:
    """Trains a vocabulary: the same text and settings give the same bytes, on any number of threads.

    The tokenizer loses nothing: no normalisation, no added or removed spaces, newlines kept, and every character
    without a piece is spelled in bytes. Only "word_level" is lossy, and says so.
    """

    def __init__(
        self,
        vocab_size: int,
        model_type: str = DEFAULTS.model_type,
        *,
        character_coverage: float = DEFAULTS.character_coverage,
        split_digits: bool = DEFAULTS.split_digits,
        split_by_unicode_script: bool = DEFAULTS.split_by_unicode_script,
        max_piece_length: int = DEFAULTS.max_piece_length,
        training_bytes: int = DEFAULTS.training_bytes,
        shrink_to_fit: bool = DEFAULTS.shrink_to_fit,
        balance_sources: bool = DEFAULTS.balance_sources,
        num_threads: int | None = None,
        text_field: str = "text",
    ) -> None:
        """What to train; nothing is read yet.

        Args:
            vocab_size: Number of tokens, the 16 special and 256 byte tokens included.
            model_type: "bpe", "unigram", "char" or "word" of SentencePiece; "byte_bpe", "wordpiece" or "word_level" of
                Hugging Face tokenizers.
            character_coverage: Share of the characters of the corpus that get pieces (0.98 to 1); SentencePiece only.
            split_digits: Whether each digit is a token of its own; otherwise byte_bpe and wordpiece join up to three.
            split_by_unicode_script: Whether no piece has letters of two scripts, or letters and punctuation;
                SentencePiece only.
            max_piece_length: Longest piece, in characters (1 to 512), of byte_bpe in bytes.
            training_bytes: At most this much text is used, in bytes of UTF-8, sampled evenly over the corpus. Training
                on natural text takes some five times as much memory (unigram twenty times), whatever the size of the
                corpus.
            balance_sources: Whether every source of a JSONL corpus (see `sample_jsonl`) contributes the same amount of
                text, as far as it has that much; otherwise every part of the corpus does.
            shrink_to_fit: Whether a corpus too small for `vocab_size` gets the largest size that it feeds, with a
                warning, instead of an error.
            num_threads: None = one a core.
            text_field: The key of the text in a line of a JSONL corpus.

        Raises:
            ConfigError: a value is out of range.
        """
        _require(
            model_type in ALGORITHMS,
            "tokenizer.model_type",
            repr(model_type),
            f"one of {', '.join(sorted(ALGORITHMS))}",
        )
        smallest, contents = SMALLEST_SIZES[model_type]
        _require(
            vocab_size >= smallest,
            "data.tokenizer_vocab_size",
            vocab_size,
            f"{smallest} or more: every {model_type} vocabulary has {contents}",
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
        self.split_by_unicode_script = split_by_unicode_script
        self.max_piece_length = max_piece_length
        self.training_bytes = training_bytes
        self.shrink_to_fit = shrink_to_fit
        self.balance_sources = balance_sources
        self.num_threads = num_threads or os.cpu_count() or 1
        self.text_field = text_field

    def train_from_jsonl(
        self, jsonl_file: str | Path, output_prefix: str = "tokenizer", output_dir: str | Path = "."
    ) -> tuple[Path, Path]:
        """Train on the texts of a JSONL file; see `train_from_iterator`.

        Raises:
            DataError: as `train_from_iterator`; or the file is missing, or a line that is used is no JSON object with a
                text (the message names file and line).
        """
        _check_prefix(output_prefix)
        sample = sample_jsonl(
            Path(jsonl_file),
            max_bytes=self.training_bytes,
            text_field=self.text_field,
            balanced=self.balance_sources,
        )
        return self._train(sample, output_prefix, Path(output_dir), str(jsonl_file))

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
        score, with line ends and tabs escaped) and the files of `Tokenizer.save`. The algorithms of Hugging Face
        tokenizers have no `.model`: theirs is `tokenizer.json`, whatever the prefix, because transformers wants it so.

        Args:
            origin: What the texts are called in messages.

        Returns:
            The paths of the `.model` (or `tokenizer.json`) and of the `.vocab` file.

        Raises:
            DataError: there is no text to learn from.
            VocabularyTooLargeError: the text does not feed `vocab_size` tokens, and `shrink_to_fit` is off.
            ConfigError: `vocab_size` is too small for the characters of the text.
        """
        _check_prefix(output_prefix)
        sample = sample_texts(texts, max_bytes=self.training_bytes, origin=origin)
        return self._train(sample, output_prefix, Path(output_dir), origin)

    def _train(
        self, sample: list[bytes], output_prefix: str, directory: Path, origin: str
    ) -> tuple[Path, Path]:
        if not any(UNSPEAKABLE.sub(b"", chunk).strip() for chunk in sample):
            raise DataError(
                f"{origin}: no text to train a tokenizer on; expected at least one text that is not empty"
            )
        num_bytes = sum(map(len, sample))
        logger.info("training a %s vocabulary on %s bytes of text", self.model_type, f"{num_bytes:,}")
        settings = VocabularySettings(
            model_type=self.model_type,
            vocab_size=self.vocab_size,
            character_coverage=self.character_coverage,
            split_digits=self.split_digits,
            split_by_unicode_script=self.split_by_unicode_script,
            max_piece_length=self.max_piece_length,
            num_threads=self.num_threads,
        )
        with timed_progress(
            expected_seconds=num_bytes / BYTES_PER_SECOND[self.model_type],
            description="training the tokenizer",
        ):
            encoder = ALGORITHMS[self.model_type](sample, settings, origin)
        self._check_size(encoder.vocabulary, origin)
        if encoder.vocabulary.losses:
            logger.warning(
                "a %s tokenizer does not keep every text: %s; set tokenizer.model_type to bpe or byte_bpe for one that "
                "does",
                self.model_type,
                "; ".join(encoder.vocabulary.losses),
            )
        return _write(encoder, output_prefix, directory)

    def _check_size(self, vocabulary: Vocabulary, origin: str) -> None:
        size = len(vocabulary.pieces)
        if size == self.vocab_size:
            return
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


def _write(encoder: Encoder, output_prefix: str, directory: Path) -> tuple[Path, Path]:
    vocab_path = directory / f"{output_prefix}.vocab"
    lines = [f"{piece.text.translate(ESCAPES)}\t{piece.score:g}\n" for piece in encoder.vocabulary.pieces]
    atomic_write(vocab_path, "".join(lines))
    return encoder.write_files(directory, name=output_prefix, model_max_length=None), vocab_path


def _check_prefix(output_prefix: str) -> None:
    _require(
        output_prefix not in ("", ".", "..") and Path(output_prefix).name == output_prefix,
        "output_prefix",
        repr(output_prefix),
        "a file name without a directory",
    )


def _require(condition: bool, setting: str, found: object, expected: str) -> None:
    if not condition:
        raise ConfigError(f"{setting} is {found}, expected {expected}")
