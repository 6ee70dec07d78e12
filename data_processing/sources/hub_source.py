"""Documents out of a public dataset, fetched once and kept: which dataset, how much of it, and what came of it.

Nothing here uses the network unless a dataset of the hub is named.
"""

import contextlib
import glob
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from core.config import nearest
from core.data_config import HubConfig
from core.errors import ConfigError, DataError
from core.files import lock, sha256_json, write_json
from core.json_files import read_json_object
from core.progress import progress
from data_processing.document import Document, Dropped, utf8_size
from data_processing.formats.record_fields import MISSING, field_at, scalar_fields
from data_processing.sources.fingerprints import source_fingerprint
from data_processing.sources.hub_stream import (
    BUILDERS,
    Origin,
    Row,
    RowStream,
    library_version,
    quiet_library,
    resolve_revision,
)
from data_processing.sources.record_spool import Spool, SpooledRow
from data_processing.sources.remote_files import is_url
from data_processing.sources.retries import Patience

logger = logging.getLogger(__name__)

BYTES_PER_TOKEN = 4
"""What `target_tokens` is reckoned with. English prose in a vocabulary of some ten thousand pieces: 3.5 to 4.5."""

RECORD_NAME = "read.json"
LOCK_NAME = "lock"

_ADVICE = (
    "what has been fetched is kept, the same command goes on from there. Without a network, set data.hub.dataset to "
    "the directory of a copy, or data.corpus to directory and data.raw_dir to files of your own"
)
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class Recipe(NamedTuple):
    """A well-known dataset, and which one stands in for it where it cannot be read."""

    dataset: str
    subset: str | None = None
    fallback: str | None = None


RECIPES: Mapping[str, Recipe] = {
    # Its hub page holds a loading script and no data, which the library does not run from version 4 on.
    "dolma": Recipe("allenai/dolma", fallback="c4"),
    "c4": Recipe("allenai/c4", "en"),
    "fineweb-edu": Recipe("HuggingFaceFW/fineweb-edu", "sample-10BT"),
    "wikipedia": Recipe("wikimedia/wikipedia", "20231101.en"),
}
"""Name -> dataset on the hub; all have their text in `text` and a split `train`."""


def hub_documents(config: HubConfig, *, state_dir: Path) -> Iterator[Document | Dropped]:
    """The rows of the dataset as documents, in its order, up to the one with which `target_tokens` is reached.

    What is fetched is kept below `state_dir`, a directory for each dataset and part of it: an interrupted download goes
    on behind the last complete shard (`record_spool`), a finished one is never fetched again, and a larger
    `target_tokens` fetches the difference. Source is `c4/en/train[17]`, the number of the row from 0; short simple
    fields beside the text go to `metadata["fields"]`.

    Raises:
        ConfigError: the settings name no dataset.
        UnreachableError: the hub does not answer, `max_retries` times in a row.
        DataError: the dataset is not there, cannot be read, or has no such field.
        MissingDependencyError: a package that the dataset needs is not installed.
        CorruptArtifactError: what was fetched earlier is damaged.
        LockedError: another process is fetching the same.
        DiskError: the disk is full, read-only or failing.
    """
    directory = _directory(config, state_dir)
    with _Download(config, directory) as download:
        account = {"rows": 0, "documents": 0, "text_bytes": 0}
        for item in download.documents():
            account["rows"] += 1
            if isinstance(item, Document):
                account["documents"] += 1
                account["text_bytes"] += item.input_bytes
            yield item
            if download.wanted is not None and account["text_bytes"] >= download.wanted:
                break
        write_json(directory / RECORD_NAME, download.facts() | account)


def hub_fingerprint(config: HubConfig) -> dict[str, Any]:
    """What the documents are made of, to tell later whether it changed; asks nobody.

    A dataset on the hub is known by its settings: which of its revisions was read is settled by the first download and
    stands in `hub_record`. Of one on this machine the files are read.

    Returns:
        A JSON object: `sha256` over the rest; `origin`, `text_field`, `target_tokens`, and `files`, the SHA-256 over
        the files of a dataset on this machine, or null.

    Raises:
        ConfigError, DataError: as `hub_documents`.
    """
    origin = _origin(config)
    facts = {
        "origin": origin.to_dict(),
        "text_field": config.text_field,
        "target_tokens": config.target_tokens,
        "files": _files_digest(origin),
    }
    return {"sha256": sha256_json(facts), **facts}


def hub_record(config: HubConfig, *, state_dir: Path) -> dict[str, Any] | None:
    """What was read by the last `hub_documents` that came to its end; None before there was one.

    Returns:
        A JSON object: `origin` with the revision; `instead_of`, the dataset that could not be read, and `because`, or
        null; `rows`, `documents`, `text_bytes` that were read, and `estimated_tokens`.
    """
    path = _directory(config, state_dir) / RECORD_NAME
    if not path.is_file():
        return None
    record = read_json_object(path)
    return record | {"estimated_tokens": record["text_bytes"] // BYTES_PER_TOKEN}


class _Download:
    """One dataset on its way to this machine; a context manager, which holds its directory while it fetches."""

    def __init__(self, config: HubConfig, directory: Path) -> None:
        self.wanted = None if config.target_tokens is None else config.target_tokens * BYTES_PER_TOKEN
        """Bytes of text; None = all."""
        self._config = config
        self._directory = directory
        self._spool = Spool(directory)
        self._field_was_seen = False
        self._held = contextlib.ExitStack()
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        self._patience = Patience(
            max_retries=config.max_retries,
            what=f"fetching data.hub.dataset={config.dataset} from {endpoint}",
            advice=_ADVICE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def facts(self) -> dict[str, Any]:
        """What is read, and what it stands in for."""
        assert self._spool.state is not None, "nothing was fetched"
        return self._spool.state.facts

    def documents(self) -> Iterator[Document | Dropped]:
        """What is wanted, and perhaps more, shard after shard; what is missing is fetched."""
        if not self._spool.is_enough(self.wanted):
            self._held.enter_context(lock(self._directory / LOCK_NAME, held=self._directory))
            self._spool = Spool(self._directory)  # another process may have fetched it meanwhile
        next_row = None if self._spool.is_enough(self.wanted) else self._start()
        name = Origin.from_dict(self.facts()["origin"]).name
        row = shard = 0
        while True:
            while shard < self._spool.num_shards:
                for record in self._spool.records(shard):
                    yield _item(record, f"{name}[{row}]")
                    row += 1
                shard += 1
            if self._spool.is_enough(self.wanted):
                return
            assert next_row is not None, "not enough was there from the beginning"
            with quiet_library():
                self._spool.fetch_shard(next_row, text_bytes=self.wanted)

    def _start(self) -> Callable[[], SpooledRow | None]:
        """What gives row after row from where the shards end."""
        stream = self._continued() or self._begun()
        state = self._spool.state
        assert state is not None, "begun above"
        bar = self._held.enter_context(
            progress(
                total=self._config.target_tokens,
                initial=state.text_bytes // BYTES_PER_TOKEN,
                description=f"fetching {Origin.from_dict(state.facts['origin']).name}",
                unit="tokens",
            )
        )

        def next_row() -> SpooledRow | None:
            row = stream.next_row()
            if row is None:
                return None
            spooled = self._spooled(row)
            bar.update(spooled.text_bytes / BYTES_PER_TOKEN)
            return spooled

        return next_row

    def _continued(self) -> RowStream | None:
        """The stream behind what is there; None when that cannot be built on."""
        state = self._spool.state
        if state is None:
            return None
        if state.library != library_version():
            logger.warning(
                "%s: was begun with datasets %s, now %s is installed, which may count otherwise; fetching begins again",
                self._directory,
                state.library,
                library_version(),
            )
            return None
        self._spool.drop_cut_shard()
        return self._stream_of(Origin.from_dict(state.facts["origin"]), self._spool.position)

    def _begun(self) -> RowStream:
        """The stream from its beginning, of the dataset that was named or of the one that stands in for it."""
        facts: dict[str, Any] = {"instead_of": None, "because": None}
        origin = _origin(self._config)
        try:
            origin, stream = self._opened(origin)
        except DataError as error:
            recipe = RECIPES.get(self._config.dataset or "")
            if recipe is None or recipe.fallback is None:
                raise
            logger.warning(
                "%s; %s is read instead (data.hub.dataset=%s says so at once)",
                error,
                recipe.fallback,
                recipe.fallback,
            )
            facts = {"instead_of": origin.dataset, "because": str(error)}
            origin, stream = self._opened(_recipe_origin(RECIPES[recipe.fallback], split=self._config.split))
        self._spool.begin({"origin": origin.to_dict()} | facts, library=library_version())
        return stream

    def _opened(self, origin: Origin) -> tuple[Origin, RowStream]:
        """The origin as it is now, with its commit, and its stream, which is known to open."""
        if origin.kind == "hub":
            revision = resolve_revision(origin.dataset, origin.revision, patience=self._patience)
            origin = origin.replace(revision=revision)
        stream = self._stream_of(origin, None)
        stream.open()
        return origin, stream

    def _stream_of(self, origin: Origin, position: dict[str, Any] | None) -> RowStream:
        cache = self._directory / "library"
        return RowStream(origin, position=position, cache_dir=cache, patience=self._patience)

    def _spooled(self, row: Row) -> SpooledRow:
        """A row as it is kept: its text and its fields, or why it has no text."""
        path = self._config.text_field
        text = field_at(row.values, path)
        if not self._field_was_seen:
            self._check_field(text, row.values)
        if not isinstance(text, str):
            found = "null" if text is None else "nothing" if text is MISSING else type(text).__name__
            return SpooledRow({"dropped": f"field {path!r} holds {found}, expected text"}, 0, row.position)
        fields = scalar_fields((name, value) for name, value in row.values.items() if name != path)
        record = {"text": text, "fields": fields} if fields else {"text": text}
        return SpooledRow(record, utf8_size(text), row.position)

    def _check_field(self, text: Any, values: Mapping[str, Any]) -> None:
        """Refuse a dataset without the field at its first row, rather than fetch all of it for nothing."""
        if text is MISSING:
            raise DataError(
                f"data.hub.text_field {self._config.text_field!r}: {self._config.dataset} has no such field"
                f"{nearest(self._config.text_field, values)} (fields: {', '.join(values)}); name the one with the text"
            )
        self._field_was_seen = True


def _item(record: dict[str, Any], source: str) -> Document | Dropped:
    if "dropped" in record:
        return Dropped(source, "no_text_field", record["dropped"])
    metadata = {"fields": record["fields"]} if "fields" in record else {}
    return Document.of(record["text"], source=source, metadata=metadata)


def _directory(config: HubConfig, state_dir: Path) -> Path:
    """Where a download is kept: another place for each dataset, part of it and field."""
    origin = _origin(config)
    digest = sha256_json([config.dataset, origin.to_dict(), config.text_field, _files_digest(origin)])
    return state_dir / f"{origin.name.replace('/', '-')}-{digest[:12]}"


def _files_digest(origin: Origin) -> str | None:
    """The SHA-256 over the files of a dataset on this machine; None for others."""
    if origin.kind == "hub" or any(map(is_url, origin.data_files)):
        return None
    place = list(origin.data_files) if origin.kind == "builder" else origin.dataset
    return str(source_fingerprint(place)["sha256"])


def _origin(config: HubConfig) -> Origin:
    """What the settings name, without asking anybody."""
    dataset = config.dataset
    if not dataset:
        raise ConfigError(
            f"data.hub.dataset is not set; set it to a recipe ({', '.join(RECIPES)}) or an owner/name"
        )
    if dataset in RECIPES:
        return _recipe_origin(
            RECIPES[dataset],
            subset=config.subset,
            split=config.split,
            data_files=config.data_files,
            revision=config.revision,
        )
    origin = Origin(
        kind="hub", dataset=dataset, subset=config.subset, split=config.split, data_files=config.data_files
    )
    if dataset in BUILDERS:
        return origin.replace(kind="builder", data_files=_named_files(dataset, config.data_files))
    path = Path(dataset).expanduser()
    if path.is_dir():
        saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
        return origin.replace(kind="saved" if saved else "directory", dataset=str(path.resolve()))
    if _ID.fullmatch(dataset):
        return origin.replace(revision=config.revision)
    if path.exists():
        raise DataError(
            f"data.hub.dataset {dataset}: is a file, expected a directory; name the directory, or a builder such as "
            "json and the file in data.hub.data_files"
        )
    if "/" in dataset:
        raise DataError(f"data.hub.dataset {dataset}: no such directory (seen from {Path.cwd()}); correct it")
    raise ConfigError(
        f"data.hub.dataset {dataset!r} is none of the recipes ({', '.join(RECIPES)}){nearest(dataset, RECIPES)}, no "
        f"directory here and no builder ({', '.join(sorted(BUILDERS))}); a dataset on the hub is called owner/name"
    )


def _recipe_origin(recipe: Recipe, *, subset: str | None = None, **others: Any) -> Origin:
    return Origin(kind="hub", dataset=recipe.dataset, subset=subset or recipe.subset, **others)


def _named_files(builder: str, globs: Sequence[str]) -> list[str]:
    """The files of a builder, as absolute paths in order; addresses stay as they are."""
    if not globs:
        raise ConfigError(
            f"data.hub.data_files is empty, and {builder} is a builder, which makes a dataset of files; name them"
        )
    files: list[str] = []
    for pattern in globs:
        if is_url(pattern):
            files.append(pattern)
            continue
        # Not Path.glob, which refuses absolute patterns.
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
        if not found:
            raise DataError(
                f"data.hub.data_files {pattern}: no such file (seen from {Path.cwd()}); correct the name"
            )
        files += [str(Path(file).resolve()) for file in found]
    return files
