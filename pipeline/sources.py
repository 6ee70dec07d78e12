"""Where the text of a run comes from: a directory, the default corpus, or what a Python caller hands in."""

import hashlib
import logging
import platform
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict, cast

from core.config import nearest
from core.errors import ConfigError, DataError
from core.files import sha256_file, sha256_json
from core.training_config import DataConfig
from data_processing.data_collector import DataCollector
from data_processing.sources import default_corpus
from data_processing.sources.file_digests import FileDigests
from data_processing.sources.fingerprints import remote_fingerprint, source_fingerprint
from data_processing.sources.hub_source import hub_documents, hub_fingerprint
from data_processing.sources.remote_files import url_of
from data_processing.sources.sql_source import sql_documents, sql_fingerprint

logger = logging.getLogger(__name__)


class Sources(TypedDict, total=False):
    """Text to train on, any of the three together."""

    directory: str | Path
    files: Sequence[str | Path]
    texts: Sequence[str]


def check_sources(sources: Mapping[str, Any] | None) -> Sources | None:
    """`sources`, if it has at least one of the known keys and no other.

    Raises:
        ConfigError: an unknown key, or nothing at all.
    """
    if sources is None:
        return None
    known = Sources.__annotations__
    for key in sources:
        if key not in known:
            raise ConfigError(
                f"sources: unknown key {key!r}{nearest(key, known)} (known: {', '.join(known)})"
            )
    if not sources:
        raise ConfigError(f"sources: empty; give at least one of {', '.join(known)}")
    checked = dict(sources)
    for key in ("texts", "files"):
        if key in sources:
            # A list, because they are read twice: for the fingerprint and for the corpus.
            checked[key] = _as_list(key, sources[key])
    wrong = [type(text).__name__ for text in checked.get("texts", ()) if not isinstance(text, str)]
    if wrong:
        raise ConfigError(f"sources: texts must be a list of strings, found {wrong[0]} in it")
    return cast(Sources, checked)


def _as_list(key: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes | Path):
        raise ConfigError(
            f"sources: {key} must be a list, found one {type(values).__name__}; write [{key[:-1]}]"
        )
    try:
        return list(values)
    except TypeError:
        raise ConfigError(f"sources: {key} must be a list, found {type(values).__name__}") from None


def _text_digest(text: str) -> str:
    # Half a surrogate pair has no UTF-8; the cleaner takes care of it, and here it only has to be told apart.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def collect_sources(
    collector: DataCollector, sources: Sources | None, config: DataConfig, *, downloads: Path
) -> Path:
    """Collect everything into one corpus and return its file.

    Args:
        downloads: Where documents of a public dataset are kept, so that none is fetched twice.
    """
    collected = _collect_first(collector, sources, config, downloads)
    for place in config.more_data:
        if place.is_file():
            collected = collector.collect_from_files([place])
        else:
            collected = collector.collect_from_directory(place, recursive=config.recursive)
    return collected


def _collect_first(
    collector: DataCollector, sources: Sources | None, config: DataConfig, downloads: Path
) -> Path:
    if sources is None:
        for name, corpus in unread_sources(config):
            logger.warning(
                "data.%s is set, but data.corpus is %s, so it is not read; set data.corpus=%s to read it",
                *(name, config.corpus, corpus),
            )
        match config.corpus:
            case "python_standard_library":
                return collector.collect_documents(default_corpus.documents(), place="the standard library")
            case "sql":
                return collector.collect_documents(sql_documents(config.sql), place="the database")
            case "hub":
                documents = hub_documents(config.hub, state_dir=downloads)
                return collector.collect_documents(documents, place=f"the dataset {config.hub.dataset}")
        if config.file_list is not None:
            return collector.collect_from_files(listed_files(config.file_list))
        return collector.collect_from_directory(config.raw_dir, recursive=config.recursive)
    collected = None
    if "directory" in sources:
        collected = collector.collect_from_directory(Path(sources["directory"]), recursive=config.recursive)
    if "files" in sources:
        collected = collector.collect_from_files([Path(file) for file in sources["files"]])
    if "texts" in sources:
        collected = collector.collect_from_texts(sources["texts"])
    assert collected is not None, "check_sources lets no empty sources through"
    return collected


def unread_sources(config: DataConfig) -> list[tuple[str, str]]:
    """(setting, value of `data.corpus` that reads it) of each source that is named and not read.

    No error, because a file of settings may name several and the command line choose one; but a preset may have chosen.
    """
    named = {
        "raw_dir": ("directory", config.raw_dir != DataConfig.model_fields["raw_dir"].default),
        "file_list": ("directory", config.file_list is not None),
        "sql.url": ("sql", config.sql.url is not None),
        "hub.dataset": ("hub", config.hub.dataset is not None),
    }
    return [
        (name, corpus) for name, (corpus, is_named) in named.items() if is_named and corpus != config.corpus
    ]


def listed_files(file_list: Path) -> list[Path]:
    """The files that a list names, one a line; relative to the list's directory, blank lines and # comments aside.

    Raises:
        DataError: the list is missing, is not UTF-8, or names nothing.
    """
    try:
        lines = file_list.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(
            f"data.file_list={str(file_list)!r}: cannot be read ({error.strerror}); name a file with one path a line"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"data.file_list={str(file_list)!r}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    names = [line.strip() for line in lines]
    files = []
    for number, name in enumerate(names, start=1):
        if name and not name.startswith("#"):
            files.append(file_list.parent / name)
            if not files[-1].exists():
                raise DataError(
                    f"{file_list}:{number}: {name}: no such file (looked for as {files[-1]}); names in data.file_list "
                    "are relative to the directory that the list is in"
                )
    if not files:
        raise DataError(f"data.file_list={str(file_list)!r}: names no file; write one path a line")
    return files


def standard_library_facts(digests: FileDigests | None = None) -> dict[str, Any]:
    """What the default corpus is made of: the interpreter's version and its library's content."""
    files = source_fingerprint(default_corpus.module_files(), digests=digests)
    return {"python": platform.python_version(), "standard library": files["sha256"]}


def source_facts(
    sources: Sources | None,
    config: DataConfig,
    *,
    ignore: Sequence[Path] = (),
    digests_at: Path | None = None,
    forgotten: Collection[str] = (),
) -> dict[str, Any]:
    """What was there to collect, for the manifest: another answer means that the raw data changed.

    Args:
        ignore: Where the run itself writes, in case that lies within the raw data.
        digests_at: Database of files' digests, so that files are not read again at every start; None = there is none.
        forgotten: Sources that are to be left out.
    """
    # What does not exist is not made here: asking for a plan writes nothing.
    read_only = digests_at is None or not digests_at.parent.is_dir()
    with FileDigests(digests_at, read_only=read_only) as digests:
        facts = _source_facts(sources, config, ignore, digests)
        for place in config.more_data:
            facts[f"more data {place}"] = (
                source_fingerprint([place], digests=digests)
                if place.is_file()
                else _directory_facts(place, config, ignore, digests)
            )
    if sources is not None or config.corpus in ("auto", "directory") or config.more_data:
        # Files that need it are left out without it, and another version may read them in another way.
        facts["pypdf"] = _version("pypdf")
    for name, path in _named_files(config).items():
        facts[name] = sha256_file(path) if path.is_file() else "missing"
    if forgotten:
        facts["forgotten"] = sorted(forgotten)
    return facts


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _named_files(config: DataConfig) -> dict[str, Path]:
    """Files that settings of the data name, whose content decides what is kept."""
    named = {
        "data.blocklist.documents": config.blocklist.documents,
        "data.blocklist.patterns": config.blocklist.patterns,
        **{f"data.decontamination.files[{n}]": path for n, path in enumerate(config.decontamination.files)},
    }
    return {name: path for name, path in named.items() if path is not None}


def _directory_facts(
    directory: Path, config: DataConfig, ignore: Sequence[Path], digests: FileDigests
) -> dict[str, Any]:
    if (url := url_of(directory)) is not None:
        return remote_fingerprint(
            url, recursive=config.recursive, include=config.include, exclude=config.exclude
        )
    return source_fingerprint(
        directory,
        recursive=config.recursive,
        include=config.include,
        exclude=config.exclude,
        respect_gitignore=config.respect_gitignore,
        ignore=[path.parent.resolve() / path.name for path in ignore],
        digests=digests,
    )


def _source_facts(
    sources: Sources | None, config: DataConfig, ignore: Sequence[Path], digests: FileDigests
) -> dict[str, Any]:
    directory_facts = partial(_directory_facts, config=config, ignore=ignore, digests=digests)
    if sources is None:
        match config.corpus:
            case "python_standard_library":
                return standard_library_facts(digests)
            case "sql":
                return {"database": sql_fingerprint(config.sql)}
            case "hub":
                return {"public dataset": hub_fingerprint(config.hub)}
        if config.file_list is not None:
            return {"listed files": source_fingerprint(listed_files(config.file_list), digests=digests)}
        return {"raw files": directory_facts(config.raw_dir)}
    facts: dict[str, Any] = {}
    if "directory" in sources:
        facts["raw files"] = directory_facts(Path(sources["directory"]))
    if "files" in sources:
        facts["files"] = source_fingerprint([Path(file) for file in sources["files"]], digests=digests)
    if "texts" in sources:
        facts["texts"] = sha256_json([_text_digest(text) for text in sources["texts"]])
    return facts
