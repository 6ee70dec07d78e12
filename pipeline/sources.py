"""Where the text of a run comes from: a directory, the default corpus, or what a Python caller hands in."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

from core.config import nearest
from core.errors import ConfigError
from core.files import sha256_json, sha256_text
from core.training_config import DataConfig
from data_processing import default_corpus
from data_processing.data_collector import DataCollector
from data_processing.raw_files import source_fingerprint
from data_processing.readers import READERS


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
    if isinstance(sources.get("texts"), str):
        raise ConfigError("sources: texts must be a list of strings, found one string; write [text]")
    return cast(Sources, dict(sources))


def collect_sources(collector: DataCollector, sources: Sources | None, config: DataConfig) -> Path:
    """Collect everything into one corpus and return its file."""
    if sources is None:
        if config.corpus == "python_standard_library":
            return collector.collect_documents(default_corpus.documents())
        return collector.collect_from_directory(config.raw_dir, recursive=config.recursive)
    corpus = None
    if "directory" in sources:
        corpus = collector.collect_from_directory(Path(sources["directory"]), recursive=config.recursive)
    if "files" in sources:
        corpus = collector.collect_from_files([Path(file) for file in sources["files"]])
    if "texts" in sources:
        corpus = collector.collect_from_texts(sources["texts"])
    assert corpus is not None, "check_sources lets no empty sources through"
    return corpus


def standard_library_facts() -> dict[str, Any]:
    """What the default corpus is made of: the interpreter's version and its library's content."""
    files = source_fingerprint(default_corpus.module_files(), formats={".py"})
    return {"python": platform.python_version(), "standard library": files["sha256"]}


def _files_fingerprint(source: Path | Sequence[Path], *, recursive: bool = True) -> dict[str, Any]:
    return source_fingerprint(source, formats=READERS.keys(), recursive=recursive)


def source_facts(sources: Sources | None, config: DataConfig) -> dict[str, Any]:
    """What was there to collect, for the manifest: another answer means that the raw data changed."""
    if sources is None:
        if config.corpus == "python_standard_library":
            return standard_library_facts()
        return {"raw files": _files_fingerprint(config.raw_dir, recursive=config.recursive)}
    facts: dict[str, Any] = {}
    if "directory" in sources:
        facts["raw files"] = _files_fingerprint(Path(sources["directory"]), recursive=config.recursive)
    if "files" in sources:
        facts["files"] = _files_fingerprint([Path(file) for file in sources["files"]])
    if "texts" in sources:
        facts["texts"] = sha256_json([sha256_text(text) for text in sources["texts"]])
    return facts
