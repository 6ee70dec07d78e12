"""Tokenizers of each type, trained on the corpus of hostile_text."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tokenization.hostile_text import corpus
from tokenization.tokenizer import Tokenizer
from tokenization.tokenizer_trainer import TokenizerTrainer

SIZES = {"bpe": 900, "unigram": 700, "char": 460, "word": 500}


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A directory with the tokenizer of a type; each is trained once."""
    made: dict[str, Path] = {}

    def directory(model_type: str) -> Path:
        if model_type not in made:
            made[model_type] = tmp_path_factory.mktemp(model_type)
            trainer = TokenizerTrainer(
                SIZES[model_type], model_type, shrink_to_fit=True, character_coverage=1.0
            )
            trainer.train_from_iterator(corpus(), "tokenizer", made[model_type])
        return made[model_type]

    return directory


@pytest.fixture(scope="session", params=SIZES)
def tokenizer(request: pytest.FixtureRequest, tokenizer_directory: Callable[[str], Path]) -> Tokenizer:
    """A tokenizer of each type."""
    return Tokenizer.from_file(tokenizer_directory(request.param))


@pytest.fixture(scope="session")
def bpe_directory(tokenizer_directory: Callable[[str], Path]) -> Path:
    """The directory of the BPE tokenizer."""
    return tokenizer_directory("bpe")


@pytest.fixture(scope="session")
def bpe(bpe_directory: Path) -> Tokenizer:
    """The BPE tokenizer."""
    return Tokenizer.from_file(bpe_directory)
