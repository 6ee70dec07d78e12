"""Tokenizers of each type, trained on one small corpus that has code, several scripts and odd characters."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tokenization.tokenizer import Tokenizer
from tokenization.tokenizer_trainer import TokenizerTrainer

SIZES = {"bpe": 900, "unigram": 700, "char": 460, "word": 500}

FRAGMENTS = (
    *["the", "of", "and", "iron", "furnace", "furnaces", "heat", "heated", "heating", "smith", "hammer", "bloom", "aab", "abab", "aaaa"],
    *["def", "return", "self.value", "==", "!=", "(x)", "[0]", "->", "None:", "import", "os.path", "#", "---", "'''", "1", "22", "2026", "3.14"],
    *["Привет", "мир", "добрый", "день"],
    *["日本語", "カタカナ", "こんにちは", "東京"],
    *["العربية", "हिन्दी", "한국어", "é", "naïve", "👩\u200d👩\u200d👧", "🏽"],
)
SEPARATORS = (" ",) * 8 + ("\n", "\n\n", "\n    ", "\n        ", ", ", ". ", "\t", "  ", "")


def corpus(seed: int = 0, num_texts: int = 120) -> list[str]:
    """Texts of random fragments; every seed gives others."""
    draw = random.Random(seed)
    return [
        "".join(draw.choice(FRAGMENTS) + draw.choice(SEPARATORS) for _ in range(draw.randint(20, 200)))
        for _ in range(num_texts)
    ]


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
