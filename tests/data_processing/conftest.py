"""Places behind URLs, for the tests of several rooms."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from data_processing.sources import retries
from tests.data_processing.remote_stores import NUMBER, FailingFileSystem


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception]]:
    """The errors that the next requests to failing:// end in; waiting for them takes no time."""
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    monkeypatch.setattr(retries.time, "sleep", lambda seconds: None)
    yield FailingFileSystem.errors
    FailingFileSystem.errors.clear()
    FailingFileSystem.store.clear()


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place behind a URL."""
    if request.param == "file":
        (tmp_path / "there").mkdir()
        return f"file://{tmp_path}/there"
    return f"memory://test-{next(NUMBER)}"


@pytest.fixture(params=["plain", "file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for shards that does not exist yet."""
    if request.param == "plain":
        return str(tmp_path / "shards" / "of a run")
    if request.param == "file":
        return f"file://{tmp_path}/shards/of a run"
    return f"memory://test-{next(NUMBER)}/shards"
