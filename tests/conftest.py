"""What several rooms' tests share: a small corpus made from nothing, and a tokenizer trained on it."""

import json
import os
from pathlib import Path

import hypothesis
import pytest

from core.threads import share_the_machine
from tests.small_texts import make_documents

share_the_machine()
# Tiny models are faster on one thread, and two workers with a thread for each core would wait for each other:
# tests/faults/test_generating_kills.py takes 8.8 processor seconds so, and 15.9 on two. What tests start inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A slow machine is no fault of the code under test.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need a GPU are skipped where there is none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A jsonl corpus of 300 documents."""
    path = tmp_path_factory.mktemp("corpus") / "collected_texts.jsonl"
    lines = [
        json.dumps({"text": text, "id": f"doc-{index}", "source": f"{index}.txt", "metadata": {}})
        for index, text in enumerate(make_documents(300))
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small_tokenizer_directory(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a BPE tokenizer of 384 tokens."""
    from tokenization.tokenizer_trainer import TokenizerTrainer

    directory = tmp_path_factory.mktemp("tokenizer")
    TokenizerTrainer(384, "bpe").train_from_jsonl(small_corpus, "tokenizer", directory)
    return directory


@pytest.fixture(scope="session")
def small_tokenizer(small_tokenizer_directory: Path):
    """The tokenizer of `small_tokenizer_directory`."""
    from tokenization.tokenizer import Tokenizer

    return Tokenizer.from_file(small_tokenizer_directory)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The directory of real texts that BLOOMERY_REAL_DATA names."""
    path = os.environ.get("BLOOMERY_REAL_DATA")
    if not path:
        pytest.skip("BLOOMERY_REAL_DATA is not set")
    return Path(path)
