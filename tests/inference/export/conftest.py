"""Exports in this process, because a fresh one takes seconds to import an engine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference.export import exporting
from inference.export.questions import Questions, make_questions
from tests.inference.export.exportable_models import saved_model
from tokenization.tokenizer import Tokenizer


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is asked here, and about fewer texts."""

    def fewer(*arguments: Any, **options: Any) -> Questions:
        made = make_questions(*arguments, **options)
        return Questions(made.texts[::20], made.conversations, made.prompts, made.num_new_tokens)

    monkeypatch.setattr(exporting, "in_fresh_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(exporting, "make_questions", fewer)


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory, small_tokenizer: Tokenizer) -> Callable[[str], Path]:
    """The directory of a model of a shape; each is made once and must not be changed."""
    made: dict[str, Path] = {}

    def directory(shape: str) -> Path:
        if shape not in made:
            made[shape] = saved_model(tmp_path_factory.mktemp(shape) / "final", small_tokenizer, shape)
        return made[shape]

    return directory
