"""Answers about a collected corpus: why a file was left out or kept, samples of a reason, what a name means.

Reads what lies beside the corpus (`corpus_files`) and never a raw file. Where a sentence came from: `trace_sentence`.
"""

import heapq
import itertools
import json
import re
import shlex
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from core.config import nearest
from core.config_files import SETTINGS_FILE
from core.errors import CorruptArtifactError, DataError
from data_processing.document import utf8_size
from data_processing.formats.archives import TAR_SUFFIXES
from data_processing.reports.corpus_files import (
    CORPUS_NAME,
    DROPPED_NAME,
    DUPLICATES_NAME,
    FILES_NAME,
    REPORT_NAME,
    read_lines,
    read_report,
)
from data_processing.reports.line_search import lines_with
from data_processing.sources.raw_files import shared_name

MOST_NAMES = 100_000
"""Names that are compared with one that is unknown: a few seconds; arbitrary."""
MOST_CASES = 10
"""Documents of one file that are listed; arbitrary: a screen."""

# The place of a document in its file: a line, an element, a part, a member of an archive.
_PLACE_IN_FILE = re.compile(r"(?::\d+|\[\d+\]|#\w+=\d+|!.+)+$", re.DOTALL)


@dataclass(frozen=True)
class Places:
    """Where the results of a run lie: its corpus, and its own directory and its dataset where they are known."""

    corpus: Path
    run: Path | None = None
    dataset: Path | None = None


@dataclass(frozen=True)
class Account:
    """What became of a file, or of one document of it.

    Attributes:
        source: Its name in the corpus.
        file: Its line in `files.jsonl`; None for a document that came from no file and was left out.
        namesakes: Other files of this name, from other calls of one collector (`raw_files.numbered_name`).
        kept: Of an archive, the first `MOST_CASES` documents that are in the corpus, by name.
        dropped: The first `MOST_CASES` documents that were left out, as in `dropped.jsonl`.
        clusters: The clusters of near duplicates that its documents belong to, as many at most.
    """

    source: str
    file: dict[str, Any] | None
    namesakes: list[str]
    kept: list[str]
    dropped: list[dict[str, Any]]
    clusters: list[dict[str, Any]]


def find_places(path: str | Path) -> Places:
    """Where things are, from the directory of a run or of a corpus.

    Raises:
        DataError: neither is there.
    """
    path = Path(path)
    if (path / REPORT_NAME).is_file():
        return replace(_places_of_run(path.parent), corpus=path) if path.name == "corpus" else Places(path)
    if (path / "corpus" / REPORT_NAME).is_file() or (path / SETTINGS_FILE).is_file():
        places = _places_of_run(path)
        if (places.corpus / REPORT_NAME).is_file():
            return places
        raise DataError(
            f"{places.corpus}: no corpus was collected there yet; run the line first (--until collect)"
        )
    found = "an empty directory" if path.is_dir() else "a file" if path.exists() else "nothing"
    if path.is_dir() and (names := sorted(entry.name for entry in path.iterdir())):
        found = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise DataError(
        f"{path}: expected the directory of a run or of a corpus (with {REPORT_NAME}), found {found}"
    )


def why(places: Places, name: str) -> Account:
    """What became of a file or document.

    Args:
        name: As it stands in the corpus, or a longer or shorter path that ends the same and fits one file alone, or one
            member of an archive.

    Raises:
        DataError: no file of the corpus, or more than one, has that name; or the lists beside it are missing.
    """
    source = resolve_source(places, name, groups=True)
    file_name = _PLACE_IN_FILE.sub("", source)
    # A name that looks like a place in a file may be that of a file all the same, so the whole name goes first.
    file = next(
        (found for one in (source, file_name) if (found := _file_line(places, one)) is not None), None
    )
    namesakes = [] if file is None else list(_namesakes(places, file["source"]))
    if file is None and (kept := _kept_line(places, source)) is not None:  # a document that came from no file
        size = utf8_size(kept["text"])
        file = {
            "source": source,
            "num_bytes": size,
            "read": True,
            "documents_in": 1,
            "kept": 1,
            "bytes_kept": size,
            "dropped": {},
        }
    dropped = (
        line for line in _lines_about(places.corpus / DROPPED_NAME, source) if _is_in(line["source"], source)
    )
    clusters = (
        line
        for line in _lines_about(places.corpus / DUPLICATES_NAME, source)
        if any(_is_in(member["source"], source) for member in line["members"])
    )
    members = _kept_members(places, source) if file is not None and _is_archive(source, file) else iter(())
    return Account(
        source,
        file,
        namesakes,
        kept=list(islice(members, MOST_CASES)),
        dropped=list(islice(dropped, MOST_CASES)),
        clusters=list(islice(clusters, MOST_CASES)),
    )


def resolve_source(places: Places, name: str, *, groups: bool = False) -> str:
    """The name that a file or document has in the corpus.

    Args:
        groups: Whether a member of an archive that holds several documents (records, an archive within) will do.

    Raises:
        DataError: none has a name that ends like this one, or several have; the message names the nearest.
    """
    if not (places.corpus / FILES_NAME).is_file():
        raise DataError(
            f"{places.corpus}: holds no {FILES_NAME}; it was collected by an earlier version, collect again"
        )
    name = name.rstrip("/")
    if not name:
        raise DataError("the name of the file is empty; give one as it stands in the corpus")
    for candidate in dict.fromkeys([name, name.removeprefix("./")]):
        if candidate and _is_known(places, candidate, groups=groups):
            return candidate
    file, place = _split_place(name)
    alike = sorted(set(_sources_like(places, file)))
    found = [source for source in alike if _ends_alike(source, file)]
    if len(found) == 1:
        if not place or _is_known(places, found[0] + place, groups=groups):
            return found[0] + place
        raise DataError(
            f"{name}: {found[0]} has no document {place}; leave out the place to ask for the whole file"
        )
    if found:
        raise DataError(f"{name}: {len(found)} files are called so ({_several(found)}); name one of them")
    members = list(islice(_members_called(places, name), MOST_CASES + 1))
    if len(members) == 1:
        if groups or _is_known(places, members[0]):
            return members[0]
        raise DataError(f"{name}: {members[0]} holds several documents; name them one by one, or the archive")
    if members:
        quoted = _several([shlex.quote(member) for member in members])
        raise DataError(
            f"{name}: several members of archives are called so; name one of them in full: {quoted}"
        )
    hint = f"; names that hold it: {_several(alike)}" if alike else nearest(file, _names_like(places, file))
    raise DataError(
        f"{name}: no file of {places.corpus} is called so{hint}; names are relative to the directory that was collected"
    )


def sample(places: Places, reason: str, number: int) -> list[dict[str, Any]]:
    """Some of the things that were left out for a reason, the same ones every time, from all over the corpus.

    Raises:
        DataError: nothing was left out for it; the message names the reasons that there are.
    """
    path = places.corpus / DROPPED_NAME
    known = read_report(places.corpus / REPORT_NAME).get("dropped", {})
    if reason not in known:
        listed = ", ".join(known) or "nothing was left out"
        raise DataError(
            f"{reason}: nothing was left out for this reason{nearest(reason, known)} (reasons: {listed})"
        )

    def matching() -> Iterator[tuple[int, int, dict[str, Any]]]:
        for position, line in enumerate(parsed_lines(path, json.dumps(reason).encode())):
            if line["reason"] == reason:
                # A checksum of the name spreads the choice evenly, and choosing again gives the same.
                yield zlib.crc32(line["source"].encode("utf-8", "replace")), position, line

    chosen = heapq.nsmallest(number, matching(), key=lambda entry: entry[:2])
    return [line for _, _, line in sorted(chosen, key=lambda entry: entry[1])]


def _places_of_run(run: Path) -> Places:
    """The places that a run's settings name, else those below it."""
    settings = read_report(run / SETTINGS_FILE).get("data", {}) if (run / SETTINGS_FILE).is_file() else {}
    corpus, dataset = settings.get("output_dir"), settings.get("dataset_dir")
    return Places(Path(corpus or run / "corpus"), run, Path(dataset or run / "dataset"))


def _split_place(name: str) -> tuple[str, str]:
    """A name as that of a file and the place in it; the place is empty for a file."""
    place = _PLACE_IN_FILE.search(name)
    return (name[: place.start()], place[0]) if place else (name, "")


def _is_known(places: Places, source: str, *, groups: bool = False) -> bool:
    if _file_line(places, source) is not None:
        return True
    # A document that was kept stands in the corpus alone.
    return any(
        line["source"] == source or (groups and "!" in source and _is_in(line["source"], source))
        for name in (DROPPED_NAME, CORPUS_NAME)
        for line in _lines_about(places.corpus / name, source)
    )


def _is_archive(source: str, file: Mapping[str, Any]) -> bool:
    """Whether it may have members: judged by its name, because looking for them reads the whole corpus."""
    name = source.lower()
    return file["documents_in"] > 1 and (name.endswith((".zip", ".tar", *TAR_SUFFIXES)) or ".tar." in name)


def _kept_members(places: Places, source: str) -> Iterator[str]:
    for line in _lines_about(places.corpus / CORPUS_NAME, f"{source}!"):
        if line["source"].startswith(f"{source}!"):
            yield line["source"]


def _members_called(places: Places, name: str) -> Iterator[str]:
    """Members of archives whose own names end like `name`, each once; read from the names of their documents."""
    called = re.compile(rf"![^!]*?(?<=[!/]){re.escape(name)}(?=$|[!:\[#])")
    needles = [name] if "/" in name else [f"!{name}", f"/{name}"]
    seen = set()
    for list_name, needle in itertools.product((DROPPED_NAME, CORPUS_NAME), needles):
        for line in _lines_about(places.corpus / list_name, needle):
            if (match := called.search(line["source"])) is not None:
                member = line["source"][: match.end()]
                if member not in seen:
                    seen.add(member)
                    yield member


def _kept_line(places: Places, source: str) -> dict[str, Any] | None:
    lines = _lines_about(places.corpus / CORPUS_NAME, source)
    return next((line for line in lines if line["source"] == source), None)


def _namesakes(places: Places, source: str) -> Iterator[str]:
    name = shared_name(source)
    for line in _lines_about(places.corpus / FILES_NAME, name):
        if line["source"] != source and shared_name(line["source"]) == name:
            yield line["source"]


def _file_line(places: Places, source: str) -> dict[str, Any] | None:
    lines = _lines_about(places.corpus / FILES_NAME, source)
    return next((line for line in lines if line["source"] == source), None)


def _lines_about(path: Path, source: str) -> Iterator[dict[str, Any]]:
    """The lines that hold the name, wherever in them; a few more than those that are about it."""
    return parsed_lines(path, json.dumps(source, ensure_ascii=False)[1:-1].encode("utf-8", "replace"))


def parsed_lines(path: Path, needle: bytes) -> Iterator[dict[str, Any]]:
    if path.is_file():
        for line in lines_with(path, needle):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise CorruptArtifactError(f"{path}: a line is not JSON ({error}); collect again") from None


def _is_in(source: str, asked: str) -> bool:
    """Whether a document is the one that was asked for, or is part of the file that was."""
    return source.startswith(asked) and (
        source == asked or _PLACE_IN_FILE.fullmatch(source, len(asked)) is not None
    )


def _sources_like(places: Places, file: str) -> Iterator[str]:
    """Names that end like `file`; documents that came from no file may stand among what was dropped alone."""
    last = file.rpartition("/")[2]
    for name in (FILES_NAME, DROPPED_NAME):
        for line in _lines_about(places.corpus / name, last):
            yield _split_place(line["source"])[0] if name == DROPPED_NAME else line["source"]


def _several(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _ends_alike(source: str, name: str) -> bool:
    return f"/{source}".endswith(f"/{name}") or f"/{name}".endswith(f"/{source}")


def _names_like(places: Places, file: str) -> Iterator[str]:
    """The names to compare with one that is unknown: without directories where it has none."""
    lines = (line for name in (FILES_NAME, DROPPED_NAME) for line in read_lines(places.corpus / name))
    for line in islice(lines, MOST_NAMES):
        yield line["source"] if "/" in file else line["source"].rpartition("/")[2]
