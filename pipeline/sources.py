"""Where the text of a run comes from: a directory, the default corpus, or what a Python caller hands in."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

from core.config import nearest
from core.errors import ConfigError
from core.files import sha256_json
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


def collect_sources(collector: DataCollector, sources: Sources | None, config: DataConfig) -> Path:
    """Collect everything into one corpus and return its file."""
    if sources is None:
        if config.corpus == "python_standard_library":
            return collector.collect_documents(default_corpus.documents(), place="the standard library")
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


def _files_fingerprint(
    source: Path | Sequence[Path], *, recursive: bool = True, ignore: Sequence[Path] = ()
) -> dict[str, Any]:
    own = [path.parent.resolve() / path.name for path in ignore]
    return source_fingerprint(source, formats=READERS.keys(), recursive=recursive, ignore=own)


def source_facts(
    sources: Sources | None, config: DataConfig, *, ignore: Sequence[Path] = ()
) -> dict[str, Any]:
    """What was there to collect, for the manifest: another answer means that the raw data changed.

    Args:
        ignore: Where the run itself writes, in case that lies within the raw data.
    """
    if sources is None:
        if config.corpus == "python_standard_library":
            return standard_library_facts()
        return {"raw files": _files_fingerprint(config.raw_dir, recursive=config.recursive, ignore=ignore)}
    facts: dict[str, Any] = {}
    if "directory" in sources:
        directory = Path(sources["directory"])
        facts["raw files"] = _files_fingerprint(directory, recursive=config.recursive, ignore=ignore)
    if "files" in sources:
        facts["files"] = _files_fingerprint([Path(file) for file in sources["files"]])
    if "texts" in sources:
        facts["texts"] = sha256_json([_text_digest(text) for text in sources["texts"]])
    return facts
