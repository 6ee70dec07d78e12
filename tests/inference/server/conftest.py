"""The model that the server's tests serve."""

from pathlib import Path

import pytest

from inference.chat import ChatModel
from tests.inference.tiny_models import save_tiny_model
from tokenization.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def served_model(small_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    """A random model that answers, with a context of 512 tokens."""
    directory = tmp_path_factory.mktemp("served") / "run" / "finetune" / "final"
    save_tiny_model(directory, small_tokenizer, max_position_embeddings=512)
    return ChatModel.load(directory, device="cpu")


@pytest.fixture
def feedback(tmp_path: Path) -> Path:
    """A place for ratings."""
    return tmp_path / "feedback.jsonl"
