"""A dataset of the Hugging Face hub, or one of the same form on this machine, as a stream of rows that survives
failures. The one place that meets the library `datasets`; knows nothing of texts.

The library runs no code of a dataset (it has no such setting any more), and here it reports no use of itself.
"""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from core.config import Config
from core.errors import BloomeryError, DataError, MissingDependencyError
from data_processing.sources.retries import Patience, describe, is_transient

T = TypeVar("T")

BUILDERS = frozenset({"json", "csv", "parquet", "arrow", "text"})
"""Builders of the library that make a dataset of files that are named."""


class Origin(Config):
    """Where rows come from, completely: the same origin gives the same rows."""

    kind: Literal["hub", "directory", "saved", "builder"]
    dataset: str
    """The id on the hub, an absolute path, or the name of a builder."""
    subset: str | None = None
    split: str
    data_files: tuple[str, ...] = ()
    revision: str | None = None
    """The commit of a dataset on the hub."""

    @property
    def name(self) -> str:
        """Its name in the sources of documents, the same wherever the data lies: `c4/en/train`."""
        return "/".join(filter(None, [Path(self.dataset).name, self.subset, self.split]))


class Row(NamedTuple):
    """One record, and the position behind it, which `RowStream` can begin at."""

    values: dict[str, Any]
    position: dict[str, Any]


class RowStream:
    """The rows of a dataset from a position on, opened when the first is asked for; failures that pass are waited out.

    Args:
        position: What a row of the same origin came with, under the same version of the library; None = the beginning.
        cache_dir: Where the library may keep small files of its own.
        patience: How long failures are borne.
    """

    def __init__(
        self, origin: Origin, *, position: dict[str, Any] | None, cache_dir: Path, patience: Patience
    ) -> None:
        self._origin = origin
        self._position = position
        self._cache_dir = cache_dir
        self._patience = patience
        self._dataset: Any = None
        self._rows: Iterator[dict[str, Any]] = iter(())

    def open(self) -> None:
        """Open the dataset, if it is not open.

        Raises:
            UnreachableError: the hub does not answer.
            DataError: there is no such dataset, subset or split, it needs to be logged in, or it cannot be read.
            MissingDependencyError: a package that it needs is not installed.
        """
        with quiet_library():
            _patiently(self._open, self._origin, self._patience)

    def next_row(self) -> Row | None:
        """The next row, or None behind the last one. To be called within `quiet_library`.

        Raises:
            As `open`.
        """
        values = _patiently(self._next_values, self._origin, self._patience)
        if values is None:
            return None
        position: dict[str, Any] = self._dataset.state_dict()
        self._position = position
        return Row(values, position)

    def _open(self) -> None:
        if self._dataset is None:
            dataset = _load(self._origin, cache_dir=self._cache_dir)
            if self._position is not None:
                dataset.load_state_dict(self._position)
            self._rows = iter(dataset)
            self._dataset = dataset

    def _next_values(self) -> dict[str, Any] | None:
        self._open()
        dataset, self._dataset = self._dataset, None  # what fails is not read on but opened anew
        values = next(self._rows, None)
        self._dataset = dataset
        return values


def resolve_revision(dataset: str, revision: str | None, *, patience: Patience) -> str:
    """The commit that a dataset of the hub, or a branch or tag of it, stands at.

    Raises:
        UnreachableError: the hub does not answer.
        DataError: there is no such dataset or revision, or one has to be logged in.
    """
    origin = Origin(kind="hub", dataset=dataset, split="train", revision=revision)

    def ask() -> str:
        from huggingface_hub import HfApi

        return str(HfApi().dataset_info(dataset, revision=revision, timeout=100).sha)

    with quiet_library():
        return _patiently(ask, origin, patience)


def library_version() -> str:
    """The version of `datasets`; positions in a stream are its own matter."""
    from importlib.metadata import version

    return version("datasets")


@contextlib.contextmanager
def quiet_library() -> Iterator[None]:
    """Within the block the library sends no telemetry, draws no bars, and leaves repeating to us.

    Its own repeating waits for up to twenty minutes without a word.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # before the import, which reads it
    import datasets
    import huggingface_hub.constants
    import huggingface_hub.utils

    settings: list[tuple[Any, str, Any]] = [
        (huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True),
        (datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False),
        (datasets.config, "STREAMING_READ_MAX_RETRIES", 1),
        (datasets.config, "STREAMING_READ_RETRY_INTERVAL", 0),
        (datasets.config, "STREAMING_READ_SERVER_UNAVAILABLE_RETRY_INTERVAL", 0),
        (datasets.config, "STREAMING_READ_RATE_LIMIT_RETRY_INTERVAL", 0),
        (datasets.config, "STREAMING_OPEN_MAX_RETRIES", 1),
        (datasets.config, "STREAMING_OPEN_RETRY_INTERVAL", 0),
    ]
    before = [getattr(module, name) for module, name, _ in settings]
    loggers = (datasets.logging, huggingface_hub.utils.logging)
    levels = [logger.get_verbosity() for logger in loggers]
    bars = not datasets.utils.are_progress_bars_disabled()
    try:
        for module, name, value in settings:
            setattr(module, name, value)
        for logger in loggers:
            logger.set_verbosity_error()
        datasets.disable_progress_bars()
        yield
    finally:
        for (module, name, _), value in zip(settings, before, strict=True):
            setattr(module, name, value)
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


def _patiently(action: Callable[[], T], origin: Origin, patience: Patience) -> T:
    """What `action` returns, called again while it fails in ways that may pass."""
    while True:
        try:
            result = action()
        except Exception as raised:  # whatever it is, it is raised again unless it may pass by itself
            error = _answer_behind(raised)
            if not is_transient(error):
                raise _explained(error, origin) from raised
            patience.failed(error)
        else:
            patience.succeeded()
            return result


def _answer_behind(error: Exception) -> Exception:
    """What the hub answered, where the library has made of it that there is no such dataset; else `error` itself."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    link: BaseException | None = error
    while link is not None:
        if isinstance(link, LocalEntryNotFoundError) and isinstance(link.__cause__, Exception):
            return link.__cause__
        # Suppressed ones too: the library looks into its cache after the failure and then raises "from None".
        link = link.__cause__ or link.__context__
    return error


def _load(origin: Origin, *, cache_dir: Path) -> Any:
    """The `datasets.IterableDataset` of an origin."""
    import datasets

    if origin.kind == "saved":
        saved = datasets.load_from_disk(origin.dataset)
        if isinstance(saved, datasets.DatasetDict):
            if origin.split not in saved:
                raise ValueError(f"no split {origin.split!r} (splits: {', '.join(saved)})")
            saved = saved[origin.split]
        return saved.to_iterable_dataset()
    return datasets.load_dataset(
        origin.dataset,
        origin.subset,
        split=origin.split,
        # Without the name of the split, files that are named would all be "train".
        data_files={origin.split: list(origin.data_files)} if origin.data_files else None,
        revision=origin.revision,
        streaming=True,
        cache_dir=str(cache_dir),
    )


def _explained(error: Exception, origin: Origin) -> Exception:
    """What the library means by an error that does not pass, as one of ours; a mistake of ours stays as it is."""
    place = f"data.hub.dataset {origin.dataset}"
    if origin.revision is not None:
        place += f" (revision {origin.revision})"
    if isinstance(error, BloomeryError):
        return error
    if isinstance(error, ImportError):
        return MissingDependencyError(
            f"{place}: needs a package that is not installed ({describe(error)}); install it with pip"
        )
    if isinstance(error, _library_errors()):
        return DataError(
            f"{place}, subset {origin.subset or '(none)'}, split {origin.split}: cannot be read ({describe(error)}); "
            "correct the names, or log in (hf auth login) if one has to ask for access to it"
        )
    return error


def _library_errors() -> tuple[type[Exception], ...]:
    """What the library raises about a dataset, its name or its content."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    content = (ValueError, EOFError, zlib.error, pa.ArrowException)
    return (DatasetsError, HfHubHTTPError, OSError, RuntimeError, *content)
