"""From files, texts and records to one corpus file and the account of it. Knows no single format and no rule."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core.data_config import DataConfig
from core.errors import DataError, DiskError
from core.files import TEMPORARY_MARK, json_bytes, lock, remove_leftovers, write_json
from core.packed_list import PackedList
from core.progress import progress
from core.workers import Mapper
from data_processing.collecting.assemble_part import AssembleTask
from data_processing.collecting.collection import (
    assemble_parts,
    judge_parts,
    read_files,
    remove_damaged,
    remove_unused,
)
from data_processing.collecting.collection_report import collection_report, nothing_kept
from data_processing.collecting.corpus_assembly import (
    EmptyCorpusError,
    cluster_lines,
    decide,
    find_duplicates,
    write_corpus,
)
from data_processing.collecting.engine import open_engine
from data_processing.collecting.found_files import (
    Found,
    FoundThings,
    distinct_names,
    find_below,
    fingerprinted,
)
from data_processing.collecting.judge_shard import JudgeSettings
from data_processing.collecting.read_shard import ReadSettings, spool
from data_processing.collecting.shard_files import DamagedShardError, read_record
from data_processing.collecting.shard_store import ShardStore
from data_processing.document import Document, Dropped
from data_processing.formats.raw_input import Reading
from data_processing.reports.corpus_files import CORPUS_FILES, CORPUS_NAME, DUPLICATES_NAME, REPORT_NAME
from data_processing.reports.report import Ledger
from data_processing.sources.raw_files import (
    SkippedDirectory,
    named_files,
)
from data_processing.sources.remote_files import is_url, url_of
from data_processing.text_cleaner import TextCleaner

CACHE_NAME = ".cache"
DIGESTS_NAME = "raw_files.sqlite"

logger = logging.getLogger(__name__)

Item = Document | Dropped | SkippedDirectory


class DataCollector:
    r"""Collects texts into `<output_dir>/collected_texts.jsonl`, with `collection_report.json` beside it.

    A corpus line is `{"text", "id", "source", "metadata"}`. The text is cleaned; the id depends on the source and on
    the text as it was read, so it is the same in every run. Documents stand in the order in which they were found
    (files by path). Of several equal texts the first stays, of several that are nearly equal the longest.

    Beside the corpus lie `dropped.jsonl` (everything that was left out, with the reason), `files.jsonl` (what became of
    each file that was found, read or not) and `duplicates.jsonl` (clusters of near duplicates).

    One collector makes one corpus: each `collect_...` call adds to what the calls before it gave, and returns the path
    of the whole. Where a file is called as one of an earlier call is, a number in front tells them apart
    (`(2)/a.txt`). A new collector starts anew, also where a corpus lies already: its first call replaces that. A call
    that ends in an exception changes nothing, and can be repeated.

    The corpus is never held in memory: shards of it are read, cleaned and judged by several processes, and lie in a
    cache directory in between. A shard that is there already is not made again, so a collection that was killed goes
    on, and one that is repeated after a file was added costs that file's shard.

    Other sources are a subclass away:

    >>> class QuoteCollector(DataCollector):
    ...     "Takes pages of quotations from a web service."
    ...     def collect_from_api(self, **kwargs):
    ...         pages = map(kwargs["fetch_page"], range(kwargs["num_pages"]))
    ...         return self.collect_documents(Document.of(page["body"], source=page["url"]) for page in pages)
    >>> def fetch_page(number):
    ...     return {"url": f"https://quotes.example/{number}", "body": f"Page {number} of the quotations. " * 5}
    >>> QuoteCollector(output_dir).collect_from_api(fetch_page=fetch_page, num_pages=2).name
    'collected_texts.jsonl'

    Args:
        output_dir: Directory for the corpus and the report; created when it is missing.
        cleaner: What is done to texts, and the limits within which they are kept; None = `TextCleaner` with the limits
            of `config`, or with its own defaults where there is no `config` either.
        config: Everything else: what is read, which rules are asked, which duplicates are left out, who does the work.
            None = the defaults of `DataConfig`. Where texts come from is said by the call, not by the configuration.
        text_field: Field of records that holds the text; None = as `config` says.
        remove_duplicates: Whether a text equal to an earlier one (after cleaning) is left out; None = as `config` says.
        ignore: Files and directories that are no data although they may lie where data is read, such as the
            results of earlier runs.
        cache_dir: Where finished shards are kept; None = `.cache` in `output_dir`.
        owns_cache: Whether shards there that this collection does not use are deleted, and other collections kept
            out meanwhile; None = where `cache_dir` is the default.
        forgotten: Sources that are left out because somebody asked for it (`scripts/inspect_data.py forget`).
    """

    def __init__(
        self,
        output_dir: str | Path,
        cleaner: TextCleaner | None = None,
        *,
        config: DataConfig | None = None,
        text_field: str | None = None,
        remove_duplicates: bool | None = None,
        ignore: Iterable[str | Path] = (),
        cache_dir: str | Path | None = None,
        owns_cache: bool | None = None,
        forgotten: Iterable[str] = (),
    ) -> None:
        self.output_dir = Path(output_dir)
        self.config = (config or DataConfig()).replace(
            **({} if text_field is None else {"text_field": text_field}),
            **({} if remove_duplicates is None else {"remove_duplicates": remove_duplicates}),
        )
        self.cleaner = cleaner if cleaner is not None else _cleaner_of(config)
        self.ignore = tuple(map(Path, ignore))
        self.cache_dir = str(cache_dir or self.config.cache_dir or self.output_dir / CACHE_NAME)
        self._owns_cache = owns_cache if owns_cache is not None else not (cache_dir or self.config.cache_dir)
        self.forgotten = frozenset(forgotten)
        self.ledger = Ledger()
        self._found = FoundThings()
        self._parts: tuple[str, ...] = ()

    @property
    def corpus_path(self) -> Path:
        """Where the corpus is, once something was collected."""
        return self.output_dir / CORPUS_NAME

    @property
    def report_path(self) -> Path:
        """Where the account is, also after a call that kept nothing."""
        return self.output_dir / REPORT_NAME

    def collect_from_directory(self, source_dir: str | Path, recursive: bool = True) -> Path:
        """Add the files of a directory, as `raw_files.find_files` finds them and `READERS` reads them.

        Raises:
            DataError: the directory is missing, is a file, or gives nothing to keep; or a jsonl file is damaged.
            DiskError: the corpus cannot be written.
        """
        place = url_of(source_dir) or str(source_dir)
        return self._collect_files(lambda: self._find(source_dir, recursive), place=place)

    def collect_from_files(self, paths: Iterable[str | Path]) -> Path:
        """Add single files, in the order given; each is read by the reader of its extension.

        Raises:
            DataError: a file is missing or is a directory, a jsonl file is damaged, or nothing is kept.
            DiskError: the corpus cannot be written.
        """
        _refuse_string(paths, "paths")
        named = list(paths)
        return self._collect_files(lambda: named_files(named), place="the files that were named")

    def collect_from_jsonl(self, path: str | Path) -> Path:
        """Add the records of a jsonl file, whatever its extension.

        Raises:
            DataError: the file is missing, is a directory or is damaged, or nothing is kept.
            DiskError: the corpus cannot be written.
        """

        def found() -> Iterator[Found]:
            for file in named_files([path]):
                yield file if isinstance(file, Dropped) else dataclasses.replace(file, read_as=".jsonl")

        named_files([path])  # says now that it is missing
        return self._collect_files(found, place=str(path))

    def collect_from_texts(self, texts: Iterable[str]) -> Path:
        """Add texts from memory; their sources are `text[0]`, `text[1]` ... counted through all calls.

        Raises:
            DataError: something is not a string, or nothing is kept.
            DiskError: the corpus cannot be written.
        """
        _refuse_string(texts, "texts")
        first = self.ledger.formats[""]["documents_in"] if "" in self.ledger.formats else 0
        return self.collect_documents(_text_documents(texts, first=first), place="the texts that were given")

    def collect_documents(
        self, items: Iterable[Item], *, place: str = "the documents that were given"
    ) -> Path:
        """Add documents that the caller made; a `Dropped` among them is counted with its reason.

        Raises:
            DataError: metadata of a document is not JSON, or nothing is kept.
            DiskError: the corpus cannot be written.
        """
        with self._alone():
            try:
                return self._collect_documents_alone(items, place)
            except DamagedShardError as damaged:
                # The documents are gone by, so it cannot be tried again here.
                raise self._explained(damaged) from None

    def _collect_documents_alone(self, items: Iterable[Item], place: str) -> Path:
        found = FoundThings()
        parts = [
            part
            for names in spool(
                found.without_directories(progress(items, description="collecting", unit="documents")),
                self._store,
                self._read_settings,
            )
            for part in names
        ]
        with open_engine(self.config) as mapper:
            return self._collect(found, parts, mapper, place=place)

    def collect_from_api(self, **kwargs: Any) -> Path:
        """Add what a service returns: for subclasses to define, see the example of the class.

        Raises:
            DataError: always, here.
        """
        raise DataError(
            f"{type(self).__name__} does not define collect_from_api: write a subclass of DataCollector whose "
            "collect_from_api(**kwargs) fetches texts and returns self.collect_documents(...); its docstring has an "
            "example"
        )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others out: what they do not use they would delete."""
        if not self._owns_cache or is_url(self.cache_dir):
            yield
            return
        with lock(Path(self.cache_dir, ".lock"), held=self.output_dir):
            # Nobody else writes here now, so what is half-written was left by a process that was killed.
            for name in CORPUS_FILES:
                remove_leftovers(self.output_dir / name)
            for leftover in Path(self.cache_dir).glob(f"shards/*/.*{TEMPORARY_MARK}*"):
                leftover.unlink(missing_ok=True)
            yield

    @property
    def _store(self) -> ShardStore:
        return ShardStore(f"{self.cache_dir.rstrip('/')}/shards")

    @property
    def _read_settings(self) -> ReadSettings:
        config = self.config
        return ReadSettings(
            Reading(config.text_field, config.reading),
            self.cleaner,
            wrappers=config.boilerplate.wrappers,
            lines=config.boilerplate.recurring_lines,
        )

    def _find(self, place: str | Path, recursive: bool) -> Iterator[Found]:
        own = (*(self.output_dir / name for name in CORPUS_FILES), *self.ignore)
        return find_below(place, self.config, recursive=recursive, own=own)

    def _collect_files(self, find: Callable[[], Iterable[Found]], *, place: str) -> Path:
        found = find()  # says what is wrong with the place before anything is written
        with self._alone():
            try:
                return self._collect_files_alone(found, place)
            except DamagedShardError as damaged:
                logger.warning("%s/%s: damaged or gone; it is made anew", self._store.root, damaged.name)
                remove_damaged(self._store, damaged.name)
            try:
                return self._collect_files_alone(find(), place)
            except DamagedShardError as damaged:
                raise self._explained(damaged) from None

    def _explained(self, damaged: DamagedShardError) -> DiskError:
        remove_damaged(self._store, damaged.name)
        return DiskError(
            f"{self._store.root}/{damaged.name}: damaged or gone while it was needed; collect again with a new "
            f"collector, and if that happens again, delete {self._store.root} and look after the disk"
        )

    def _collect_files_alone(self, found: Iterable[Found], place: str) -> Path:
        things = FoundThings()
        named = things.files_of(
            distinct_names(found, self._names_so_far()), self.forgotten, self.config.reading
        )
        listed = PackedList(progress(named, description="finding files", unit="files"))
        files = fingerprinted(listed, database=self._digests_database)
        with open_engine(self.config) as mapper:
            parts = read_files(files, self._read_settings, self._store, mapper, num_bytes=things.num_bytes)
            return self._collect(things, parts, mapper, place=place)

    def _names_so_far(self) -> set[str]:
        """The files that the calls before this one found."""
        names = {dropped.source for dropped in self._found.dropped}
        for part in self._parts:
            names.update(read_record(self._store, f"{part}.files"))
        return names

    @property
    def _digests_database(self) -> Path | None:
        return None if is_url(self.cache_dir) else Path(self.cache_dir, DIGESTS_NAME)

    def _collect(
        self, found: FoundThings, new_parts: Sequence[str], mapper: Mapper[Any, Any], *, place: str
    ) -> Path:
        """Judge everything that was read so far, and write the corpus anew."""
        config = self.config
        parts = (*self._parts, *new_parts)
        things = self._found.followed_by(found)
        ledger = things.ledger()
        report = functools.partial(collection_report, config, self.cleaner.limits)
        memory_bytes = config.memory_bytes // 4
        judged = judge_parts(
            parts,
            JudgeSettings.of(config, self.cleaner),
            config.boilerplate,
            self._store,
            mapper,
            forgotten=self.forgotten,
            memory_bytes=memory_bytes,
        )
        duplicates = find_duplicates(
            self._store,
            judged,
            exact=config.remove_duplicates,
            near=config.duplicates,
            memory_bytes=memory_bytes,
        )
        decisions = decide(
            self._store,
            judged,
            duplicates,
            config.duplicates,
            remove_exact=config.remove_duplicates,
            remove_near=config.remove_duplicates and config.duplicates.near == "remove",
            memory_bytes=memory_bytes,
        )
        tasks = [
            AssembleTask(self._store, part, decided, self.cleaner)
            for part, decided in zip(judged, decisions, strict=True)
        ]
        try:
            if not new_parts and not found.dropped:
                raise EmptyCorpusError
            write_corpus(
                self._store,
                assemble_parts(tasks, self._store, mapper),
                ledger,
                things.dropped,
                self.output_dir,
                beside=lambda: {
                    DUPLICATES_NAME: cluster_lines(self._store, judged, duplicates),
                    REPORT_NAME: json_bytes(report(ledger, duplicates)),
                },
                num_stretches=len(tasks),
            )
        except EmptyCorpusError:
            write_json(self.report_path, report(ledger, None))
            raise DataError(nothing_kept(place, ledger)) from None
        self._found, self._parts, self.ledger = things, parts, ledger
        if self._owns_cache:  # a place that was named may serve other collections too
            remove_unused(self._store, parts, judged, [task.name for task in tasks])
        logger.info("%s: %s", place, ledger.summary())
        return self.corpus_path


def _cleaner_of(config: DataConfig | None) -> TextCleaner:
    if config is None:
        return TextCleaner()
    return TextCleaner(
        min_length=config.min_text_length,
        max_urls=config.max_urls_per_document,
        max_length=config.max_text_length,
    )


def _text_documents(texts: Iterable[str], *, first: int) -> Iterator[Document]:
    for number, text in enumerate(texts, start=first):
        if not isinstance(text, str):
            raise DataError(f"texts[{number - first}] is {type(text).__name__}, expected str")
        yield Document.of(text, source=f"text[{number}]")


def _refuse_string(values: object, name: str) -> None:
    if isinstance(values, str | bytes | Path):
        raise DataError(f"{name} is a single {type(values).__name__}, expected several; put it into a list")
