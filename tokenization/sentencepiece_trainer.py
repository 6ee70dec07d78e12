"""A vocabulary from a sample of a corpus, by SentencePiece. Knows not how the sample was drawn nor where it goes."""

import io
import math
import re
from collections.abc import Iterable, Iterator

import sentencepiece

from core.errors import ConfigError, DataError
from tokenization.corpus_sample import CHUNK_BYTES
from tokenization.hf_export import SCORE_QUANTUM
from tokenization.model_file import SPACE_SYMBOL, ModelFile, canonical_model, parse_model
from tokenization.sentencepiece_encoder import SentencePieceEncoder
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
from tokenization.vocabulary_settings import VocabularySettings
from tokenization.word_counts import count_words, cuts_around_bpe_pieces, cuts_at_spaces

MAX_SENTENCE_BYTES = 4 * CHUNK_BYTES
"""SentencePiece drops what is longer than `max_sentence_length` without a word; no chunk is this long."""

TAB_SUBSTITUTE = b"\b"
"""SentencePiece reads a word and its count with a tab between them, so a tab within a word is handed over as the
character in front of it: no other one can come between the two in its order of equally frequent pieces."""

UNSPEAKABLE = re.compile(
    b"|".join(
        re.escape(name.encode())
        for name in (SPACE_SYMBOL, "\u2585", TAB_SUBSTITUTE.decode(), *SPECIAL_TOKENS)
    )
    + rb"|<0x[0-9A-F]{2}>"
)
"""What training text is cut at and does not hold. SentencePiece uses U+2581 for a space and U+2585 for what is unknown
(it skips a sentence that has one), and it puts a tab for the name of a special or byte token: none of these is text
that the vocabulary could be learned from. All are encoded as other text, by characters or bytes."""

UNSEEN_SCORE = -100.0
"""Below every logarithm of a share of a corpus, and still a number in JSON. Arbitrary."""

UNIGRAM_THREADS = 8
"""The unigram trainer adds 32-bit floats thread by thread, so the number of threads changes the vocabulary a
little. It is fixed, because a corpus should give one vocabulary on every machine; on fewer cores threads wait."""

QUIET = 2
"""SentencePiece's log level for errors only; what matters is said by our own messages."""


def train_sentencepiece(
    sample: list[bytes], settings: VocabularySettings, origin: str
) -> SentencePieceEncoder:
    """The vocabulary of `settings.vocab_size`, or of the largest size that the sample feeds.

    SentencePiece is trained without its hard limit and gives the pieces that it finds. A unigram vocabulary of that
    size can come out smaller still (pruning starts from the size that is asked for), so a size counts as feasible only
    when training with it gives it.

    Args:
        sample: Chunks of text in UTF-8. The list is emptied, to free its memory.
        origin: What the corpus is called in messages.

    Raises:
        DataError: the text is of a kind that no vocabulary can be learned from.
        ConfigError: `vocab_size` is too small for the characters of the text.
    """
    sentences = list(_sentences(sample, settings))
    sample.clear()
    size = settings.vocab_size
    while True:
        trained = _train(sentences, size, settings, origin)
        model = canonical_model(
            trained,
            round_score=lambda score: _round_score(score, settings.model_type),
            rename=lambda text: text.replace(TAB_SUBSTITUTE.decode(), "\t"),
        )
        parsed = parse_model(model)
        _check_required_characters(parsed, origin)
        if len(parsed.pieces) == size:
            return SentencePieceEncoder(model)
        assert len(parsed.pieces) < size
        size = len(parsed.pieces)


def _sentences(sample: Iterable[bytes], settings: VocabularySettings) -> Iterator[bytes]:
    """What SentencePiece is to read.

    But for unigram, whose first candidates are the frequent substrings of whole sentences, training depends on nothing
    but how often each word occurs. Handing over the counts instead of 100 MB of text gives the same pieces
    (tests/tokenization/test_sentencepiece_trainer.py), in 7 instead of 16 seconds and 0.6 instead of 1.3 GB.
    """
    parts = (part for chunk in sample for part in UNSPEAKABLE.split(chunk) if part)
    if settings.model_type == "unigram":
        yield from parts
        return
    if settings.model_type == "word":  # has no line end inside a word
        parts = (line for part in parts for line in part.split(b"\n") if line)
    cuts = cuts_at_spaces()
    if settings.model_type == "bpe":
        cuts = cuts_around_bpe_pieces(
            split_digits=settings.split_digits, split_by_unicode_script=settings.split_by_unicode_script
        )
    for word, count in count_words(parts, cuts):
        yield b"%b\t%d" % (word.replace(b"\t", TAB_SUBSTITUTE), count)


def _train(sentences: list[bytes], vocab_size: int, settings: VocabularySettings, origin: str) -> bytes:
    is_unigram = settings.model_type == "unigram"
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            input_format="text" if is_unigram else "tsv",
            model_writer=model,
            model_type=settings.model_type,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            character_coverage=settings.character_coverage,
            required_chars=_required_characters(settings.model_type),
            split_digits=settings.split_digits,
            split_by_unicode_script=settings.split_by_unicode_script,
            max_sentencepiece_length=settings.max_piece_length,
            max_sentence_length=MAX_SENTENCE_BYTES,
            input_sentence_size=0,
            num_threads=UNIGRAM_THREADS if is_unigram else settings.num_threads,
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
            f"or lower tokenizer.character_coverage (now {settings.character_coverage})"
        ) from None
    return model.getvalue()


def _check_required_characters(parsed: ModelFile, origin: str) -> None:
    # SentencePiece stops at the coverage even before characters that are required.
    required = set(_required_characters(parsed.model_type))
    if missing := required - {piece.text for piece in parsed.pieces}:
        raise DataError(
            f"{origin}: too few different characters for a {parsed.model_type} vocabulary (no pieces for "
            f"{''.join(sorted(missing))!r}); add text, or set tokenizer.model_type to bpe"
        )


def _required_characters(model_type: str) -> str:
    """Characters that have pieces even if the corpus lacks them: the space, which would else be spelled in
    the bytes of U+2581, and for a unigram model those of the names of tokens (see hf_export)."""
    if model_type == "word":
        return ""
    names = SPECIAL_TOKENS + BYTE_TOKENS if model_type == "unigram" else ()
    return "".join(sorted({SPACE_SYMBOL, *"".join(names)}))


def _round_score(score: float, model_type: str) -> float:
    if math.isinf(score):  # a character model's logarithm of zero, for a required character
        return UNSEEN_SCORE
    return round(score / SCORE_QUANTUM) * SCORE_QUANTUM if model_type == "unigram" else score
