"""One finished run for the whole room's tests."""

from pathlib import Path

import pytest

from pipeline.run import TrainedLine, train_llm_from_scratch
from tests.line_kit import settings, write_inputs


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedLine]:
    """A finished run; tests that change something make their own."""
    root = tmp_path_factory.mktemp("line")
    write_inputs(root)
    return root, train_llm_from_scratch(settings(root))
