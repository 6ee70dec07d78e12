"""Tiny models for the tests of this room."""

from pathlib import Path

import pytest
import torch

from evaluation.language_model import LanguageModel, load_language_model, of_chat_model
from inference.chat import ChatModel
from tests.inference.conftest import one_thread  # noqa: F401 - used by every test here
from tests.inference.tiny_models import save_tiny_model, tiny_model


@pytest.fixture(scope="session")
def tiny_chat_model(small_tokenizer) -> ChatModel:
    """A random model of 64 tokens of context that only continues text."""
    return ChatModel(tiny_model(), small_tokenizer, answers_messages=False)


@pytest.fixture(scope="session")
def tiny_language_model(tiny_chat_model) -> LanguageModel:
    """`tiny_chat_model` as scoring sees it."""
    return of_chat_model(tiny_chat_model, fingerprint="tiny")


@pytest.fixture(scope="session")
def tiny_directory(small_tokenizer, tmp_path_factory) -> Path:
    """A model directory with a manifest, of a pretrained model."""
    return save_tiny_model(tmp_path_factory.mktemp("model") / "final", small_tokenizer, stage="pretraining")


@pytest.fixture(scope="session")
def foreign_directory(small_tokenizer, tmp_path_factory) -> Path:
    """A GPT-NeoX, which this project has no layout for, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("foreign")
    small_tokenizer.save(directory)
    config = transformers.GPTNeoXConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.GPTNeoXForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def foreign_language_model(foreign_directory) -> LanguageModel:
    """`foreign_directory`, opened."""
    return load_language_model(foreign_directory, device="cpu")
