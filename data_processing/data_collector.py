"""From files, texts and records to one corpus file and the account of it. Knows no single format and no rule."""

import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from core.errors import DataError
from core.files import atomic_writer, write_json
from core.progress import progress
from data_processing.deduplicate import ExactDuplicates
from data_processing.document import Document, Dropped
from data_processing.json_readers import read_json_lines
from data_processing.raw_files import (
    RawFile,
    SkippedDirectory,
    existing_directory,
    find_files,
    format_of,
    named_files,
)
from data_processing.readers import READERS, Reader
from data_processing.report import Ledger
from data_processing.text_cleaner import TextCleaner

CORPUS_NAME = "collected_texts.jsonl"
REPORT_NAME = "collection_report.json"
REPORT_VERSION = 1

logger = logging.getLogger(__name__)

Item = Document | Dropped | SkippedDirectory


class DataCollector:
    r"""Collects texts into `<output_dir>/collected_texts.jsonl`, with `collection_report.json` beside it.

    A corpus line is `{"text", "id", "source", "metadata"}`. The text is cleaned; the id depends on the source and on
    the text as it was read, so it is the same in every run. Documents stand in the order in which they were found
    (files by path), and the first of several equal texts is the one that stays.

    One collector makes one corpus: each `collect_...` call adds to what the calls before it kept, without duplicates
    between them, and returns the path of the whole. A new collector starts anew, also where a corpus lies already: its
    first call replaces that. A call that ends in an exception changes nothing, and can be repeated.

    The corpus is never held in memory: documents go through one by one (in parts of `readers.PART_BYTES` when a file
    is longer), and what remains of each is about 100 bytes of digest. The file appears under its name only when it is
    complete; a further call copies it first, so a few large calls are cheaper than many small ones.

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
        cleaner: What is done to texts, and which are left out; None = `TextCleaner()` with its defaults.
        text_field: Field of JSON records that holds the text.
        remove_duplicates: Whether a text equal to an earlier one (after cleaning) is left out.
        ignore: Files and directories that are no data although they may lie where data is read, such as the
            results of earlier runs.
    """

    def __init__(
        self,
        output_dir: str | Path,
        cleaner: TextCleaner | None = None,
        *,
        text_field: str = "text",
        remove_duplicates: bool = True,
        ignore: Iterable[str | Path] = (),
    ) -> None:
        self.output_dir = Path(output_dir)
        self.cleaner = cleaner if cleaner is not None else TextCleaner()
        self.text_field = text_field
        self.remove_duplicates = remove_duplicates
        self.ignore = tuple(map(Path, ignore))
        self.ledger = Ledger()
        self._duplicates = ExactDuplicates()
        self._corpus_bytes = 0

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
        existing_directory(source_dir)
        own = (self.corpus_path, self.report_path, *self.ignore)
        found = find_files(
            source_dir,
            formats=READERS,
            recursive=recursive,
            ignore=[path.parent.resolve() / path.name for path in own],
        )
        return self._collect(self._read(found), place=str(source_dir))

    def collect_from_files(self, paths: Iterable[str | Path]) -> Path:
        """Add single files, in the order given; each is read by the reader of its extension.

        Raises:
            DataError: a file is missing or is a directory, a jsonl file is damaged, or nothing is kept.
            DiskError: the corpus cannot be written.
        """
        _refuse_string(paths, "paths")
        return self._collect(
            self._read(named_files(paths, formats=READERS)), place="the files that were named"
        )

    def collect_from_jsonl(self, path: str | Path) -> Path:
        """Add the records of a jsonl file, whatever its extension.

        Raises:
            DataError: the file is missing, is a directory or is damaged, or nothing is kept.
            DiskError: the corpus cannot be written.
        """
        found = named_files([path], formats={format_of(Path(path))})
        return self._collect(self._read(found, reader=read_json_lines), place=str(path))

    def collect_from_texts(self, texts: Iterable[str]) -> Path:
        """Add texts from memory; their sources are `text[0]`, `text[1]` ... counted through all calls.

        Raises:
            DataError: something is not a string, or nothing is kept.
            DiskError: the corpus cannot be written.
        """
        _refuse_string(texts, "texts")
        first = self.ledger.formats[""]["documents_in"] if "" in self.ledger.formats else 0
        return self._collect(_text_documents(texts, first=first), place="the texts that were given")

    def collect_documents(
        self, items: Iterable[Item], *, place: str = "the documents that were given"
    ) -> Path:
        """Add documents that the caller made; a `Dropped` among them is counted with its reason.

        Raises:
            DataError: metadata of a document is not JSON, or nothing is kept.
            DiskError: the corpus cannot be written.
        """
        return self._collect(items, place=place)

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

    def _read(
        self, found: Iterable[RawFile | Dropped | SkippedDirectory], reader: Reader | None = None
    ) -> Iterator[Item]:
        for file in found:
            if isinstance(file, RawFile):
                yield from _read_file(file, reader or READERS[file.format], text_field=self.text_field)
            else:
                yield file

    def _collect(self, items: Iterable[Item], *, place: str) -> Path:
        new = Ledger()
        with self._duplicates.transaction(), atomic_writer(self.corpus_path) as corpus:
            self._copy_corpus(corpus)
            for item in progress(items, description="collecting", unit="documents"):
                self._enter(item, new, corpus)
            if new.documents_in == 0 or self.ledger.kept + new.kept == 0:
                write_json(self.report_path, self._report(new))
                raise DataError(_nothing_kept(place, new))
            size = corpus.tell()
        self.ledger.add(new)
        self._corpus_bytes = size
        write_json(self.report_path, self._report(self.ledger))
        logger.info("%s: %s", place, new.summary())
        return self.corpus_path

    def _enter(self, item: Item, ledger: Ledger, corpus: IO[bytes]) -> None:
        if isinstance(item, SkippedDirectory):
            ledger.skip_directory(item.source, item.reason)
        elif isinstance(item, Dropped):
            ledger.drop(item)
        else:
            text = self.cleaner.clean(item.text, code=bool(item.metadata.get("code")))
            if reason := self.cleaner.reason_to_drop(text):
                ledger.drop(item.dropped(reason, self.cleaner.explain(text, reason)))
            elif self.remove_duplicates and not self._duplicates.is_new(text):
                ledger.drop(item.dropped("duplicate"))
            else:
                corpus.write(_corpus_line(item, text))
                ledger.keep(item, text)

    def _copy_corpus(self, corpus: IO[bytes]) -> None:
        """Begin with what the calls before this one kept."""
        if not self.ledger.kept:
            return
        try:
            with self.corpus_path.open("rb") as earlier:
                shutil.copyfileobj(earlier, corpus)
                size = earlier.tell()
        except FileNotFoundError:
            size = 0
        if size != self._corpus_bytes:
            raise DataError(
                f"{self.corpus_path}: has {size} bytes, expected the {self._corpus_bytes} that this collector wrote; "
                "another program changed it: start again with a new DataCollector"
            )

    def _report(self, ledger: Ledger) -> dict[str, Any]:
        limits = self.cleaner.limits
        return {
            "report_version": REPORT_VERSION,
            "corpus": CORPUS_NAME,
            "settings": {
                "text_field": self.text_field,
                "remove_duplicates": self.remove_duplicates,
                "min_length": limits.min_length,
                "max_length": limits.max_length,
                "max_urls": limits.max_urls,
            },
            **ledger.to_dict(),
        }


def _read_file(file: RawFile, reader: Reader, *, text_field: str) -> Iterator[Document | Dropped]:
    """The items of a file, and one more where the operating system stops the reading."""
    items = reader(file.path, source=file.source, text_field=text_field)
    counted = 0
    while True:
        # Only reading stands in this block: an error while the corpus is written is not the file's fault.
        try:
            item = next(items, None)
        except FileNotFoundError:
            item = Dropped(file.source, "vanished", num_bytes=file.num_bytes - counted, format=file.format)
        except OSError as error:
            detail = error.strerror or str(error)
            item = Dropped(
                file.source, "unreadable", detail, num_bytes=file.num_bytes - counted, format=file.format
            )
        if item is None:
            return
        yield item
        counted += item.input_bytes if isinstance(item, Document) else item.num_bytes


def _text_documents(texts: Iterable[str], *, first: int) -> Iterator[Document]:
    for number, text in enumerate(texts, start=first):
        if not isinstance(text, str):
            raise DataError(f"texts[{number - first}] is {type(text).__name__}, expected str")
        yield Document.of(text, source=f"text[{number}]")


def _refuse_string(values: object, name: str) -> None:
    if isinstance(values, str | bytes | Path):
        raise DataError(f"{name} is a single {type(values).__name__}, expected several; put it into a list")


def _corpus_line(document: Document, text: str) -> bytes:
    record = {"text": text, "id": document.id, "source": document.source, "metadata": dict(document.metadata)}
    try:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{document.source}: metadata is not JSON ({error}); expected text, finite numbers, lists, objects"
        ) from None
    # A lone surrogate can only come from metadata: the text is clean.
    return line.encode("utf-8", "replace") + b"\n"


def _nothing_kept(place: str, ledger: Ledger) -> str:
    extensions = " ".join(sorted(READERS))
    if ledger.documents_in == 0:
        skipped = f" ({ledger.summary()})" if ledger.directories_skipped else ""
        return (
            f"{place}: nothing was found{skipped}, expected at least one text; put raw files there ({extensions}), "
            "or set data.raw_dir to where they are"
        )
    examples = "; ".join(
        f"{reason}: {sample['source']}" + (f" ({sample['detail']})" if "detail" in sample else "")
        for reason, samples in sorted(ledger.samples.items())
        for sample in samples[:1]
    )
    hint = f"; extensions that are read: {extensions}" if ledger.dropped["unsupported_format"] else ""
    return f"{place}: no document is left. {ledger.summary()}. For example, {examples}{hint}"
