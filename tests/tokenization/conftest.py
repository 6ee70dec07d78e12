"""Tokenizers of each kind, trained on the corpus of hostile_text."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tokenization.hostile_text import corpus
from tests.tokenization.kinds import LOSSLESS, SIZES
from tokenization.tokenizer import Tokenizer
from tokenization.tokenizer_trainer import TokenizerTrainer


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A directory with the tokenizer of a kind; each is trained once."""
    made: dict[str, Path] = {}

    def directory(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            trainer = TokenizerTrainer(SIZES[kind], kind, shrink_to_fit=True, character_coverage=1.0)
            trainer.train_from_iterator(corpus(), "tokenizer", made[kind])
        return made[kind]

    return directory


@pytest.fixture(scope="session", params=LOSSLESS)
def tokenizer(request: pytest.FixtureRequest, tokenizer_directory: Callable[[str], Path]) -> Tokenizer:
    """A tokenizer of each kind that loses nothing."""
    return Tokenizer.from_file(tokenizer_directory(request.param))


@pytest.fixture(scope="session")
def bpe_directory(tokenizer_directory: Callable[[str], Path]) -> Path:
    """The directory of the BPE tokenizer."""
    return tokenizer_directory("bpe")


@pytest.fixture(scope="session")
def bpe(bpe_directory: Path) -> Tokenizer:
    """The BPE tokenizer."""
    return Tokenizer.from_file(bpe_directory)
