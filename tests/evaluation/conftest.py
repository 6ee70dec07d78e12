"""Tiny models for the tests of this room."""

import pytest

from evaluation.language_model import LanguageModel, load_language_model, of_chat_model
from inference.chat import ChatModel
from tests.evaluation.foreign_models import save_foreign_model
from tests.inference.conftest import one_thread  # noqa: F401 - used by every test here
from tests.inference.tiny_models import tiny_model


@pytest.fixture(scope="session")
def tiny_chat_model(small_tokenizer) -> ChatModel:
    """A random model of 64 tokens of context that only continues text."""
    return ChatModel(tiny_model(), small_tokenizer, answers_messages=False)


@pytest.fixture(scope="session")
def tiny_language_model(tiny_chat_model) -> LanguageModel:
    """`tiny_chat_model` as scoring sees it."""
    return of_chat_model(tiny_chat_model, fingerprint="tiny")


@pytest.fixture(scope="session")
def foreign_language_model(small_tokenizer, tmp_path_factory) -> LanguageModel:
    """A model that only transformers can open."""
    directory = save_foreign_model(tmp_path_factory.mktemp("foreign"), small_tokenizer)
    return load_language_model(directory, device="cpu")
