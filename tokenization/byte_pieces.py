"""Pieces learned by pair merging from how often each word occurs, whatever its characters stand for. Knows no ids.

SentencePiece does it, because the trainers of Hugging Face tokenizers take no counts: of the 21 processor seconds that
they need for 32,000 tokens of 100 MB, 18 go into cutting and counting words. Equally frequent pairs come in another
order; of the pieces of that text the first 675 are the same, and 31,597 of all 31,728.
"""

import io
from collections.abc import Mapping

import sentencepiece

from tokenization.model_file import parse_model
from tokenization.sentencepiece_trainer import QUIET

UNKNOWN = "\ufffd"
"""Name of the token that SentencePiece insists on. It stands for no byte, so no word has it."""

LONGEST_WORD_BYTES = 1 << 20
"""SentencePiece drops a longer word without saying so. The chunks of a sample are a hundred times shorter."""

LONGEST_PIECE = 512
"""SentencePiece's limit, in characters (`VerifySpec` in trainer_interface.cc)."""


def learn_pieces(
    word_counts: Mapping[str, int],
    *,
    num_pieces: int,
    max_length: int,
    num_threads: int,
) -> list[str]:
    """Pieces of two characters and more, in the order in which they are learned; fewer if the words feed no more.

    When all words are joined, pairs follow that stand in them within other pieces only, as in SentencePiece's own
    vocabularies.

    Args:
        word_counts: Words in which there is no white space.
        max_length: Longest piece, in characters (1 to 512).
    """
    if not num_pieces or not word_counts:
        return []
    characters = set().union(*word_counts)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"{word}\t{count}".encode() for word, count in word_counts.items()),
        input_format="tsv",
        model_writer=model,
        model_type="bpe",
        vocab_size=num_pieces + len(characters) + len(UNKNOWN),
        hard_vocab_limit=False,
        character_coverage=1.0,
        split_by_unicode_script=False,
        split_by_number=False,
        max_sentencepiece_length=max_length,
        max_sentence_length=LONGEST_WORD_BYTES,
        num_threads=num_threads,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        unk_piece=UNKNOWN,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        minloglevel=QUIET,
    )
    return [piece.text for piece in parse_model(model.getvalue()).pieces if len(piece.text) > 1]
