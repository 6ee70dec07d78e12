"""What a vocabulary is to be like, for every algorithm that trains one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VocabularySettings:
    """The settings of `TokenizerTrainer` that the algorithms read; each takes those that it has a use for.

    Attributes:
        model_type: Name of the algorithm.
        vocab_size: Number of tokens, the special ones included.
        character_coverage: Share of the characters of the corpus that get pieces (SentencePiece).
        split_digits: Whether each digit is a token of its own.
        split_by_unicode_script: Whether no piece has letters of two scripts, or letters and others (SentencePiece).
        max_piece_length: Longest piece, in characters; of byte-level BPE in bytes.
        num_threads: Threads (SentencePiece; Hugging Face tokenizers take theirs from RAYON_NUM_THREADS).
    """

    model_type: str
    vocab_size: int
    character_coverage: float
    split_digits: bool
    split_by_unicode_script: bool
    max_piece_length: int
    num_threads: int
