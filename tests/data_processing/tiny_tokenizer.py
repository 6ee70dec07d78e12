"""A small real tokenizer and texts for it, made once a process."""

import atexit
import functools
import random
import shutil
import tempfile
from pathlib import Path

from tokenization.tokenizer import Tokenizer
from tokenization.tokenizer_trainer import TokenizerTrainer

WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "river",
    "stone",
    "runs",
    "sleeps",
    "under",
    "over",
    "blue",
    "seven",
    "answer",
    "list",
)


def generated_texts(number: int, *, seed: int = 0) -> list[str]:
    """Different sentences of different lengths."""
    chooser = random.Random(seed)
    return [
        f"{index}: " + " ".join(chooser.choices(WORDS, k=chooser.randint(1, 60))) + ".\n"
        for index in range(number)
    ]


@functools.cache
def tokenizer_path() -> Path:
    """The `tokenizer.model` of a BPE vocabulary of 400 tokens."""
    directory = Path(tempfile.mkdtemp(prefix="tiny-tokenizer-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    trainer = TokenizerTrainer(400, "bpe", num_threads=1)
    model, _ = trainer.train_from_iterator(generated_texts(300), "tokenizer", directory)
    return Path(model)


@functools.cache
def tiny_tokenizer() -> Tokenizer:
    """That tokenizer, loaded."""
    return Tokenizer.from_file(tokenizer_path())
