"""Reader of tables of text: csv, tsv and their kin. Knows no rule of quality."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from data_processing.document import Document, Dropped, excerpt
from data_processing.formats.input_bytes import chunks
from data_processing.formats.raw_input import RawInput, Reading
from data_processing.formats.records import RecordCounts, with_fields, with_rest
from data_processing.formats.text_encoding import Encoding, Undecodable, detect_encoding
from data_processing.formats.text_lines import text_lines

SAMPLE_LINES = 100
SAMPLE_CHARACTERS = 64 << 10
"""So much of the beginning tells how a table is written; arbitrary."""

MAX_CELL_CHARACTERS = 16 << 20
"""A longer cell is a mistake, most often a quotation mark that is not closed; arbitrary. Such a cell takes 64 MB."""

Items = Iterator[Document | Dropped]


def read_csv(raw: RawInput, reading: Reading) -> Items:
    """One document a row, from the column that `reading.text_field` names; the first row names the columns.

    What separates the columns (comma, semicolon, tab, bar) and how quotation marks are written within quotation marks
    is told from the beginning. A row is named by the line that it begins in; other short columns go to the metadata.

    Raises:
        DataError: of at least `records.MIN_RECORDS_FOR_SHARE` rows, more than
            `reading.limits.max_record_share_malformed` are malformed.
    """
    encoding = detect_encoding(chunks(raw))
    if isinstance(encoding, Undecodable):
        yield raw.dropped(encoding.reason, encoding.detail)
        return
    # The limit is one of the whole process; it is only raised, for nobody expects to be stopped by it.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARACTERS))
    yield from with_rest(raw, _items(raw, reading, encoding))


def _items(raw: RawInput, reading: Reading, encoding: Encoding) -> Items:
    rows = _rows(raw, encoding, _dialect(raw, reading, encoding))
    header = next(rows, None)
    if header is None:
        return
    if reading.text_field not in header.cells:
        detail = (
            f"no column {reading.text_field!r} (columns here: {excerpt(', '.join(header.cells)) or 'none'}); set "
            "data.text_field to the column that holds the text"
        )
        yield raw.dropped("no_text_field", detail, num_bytes=0)
        return
    counts = RecordCounts()
    num_bytes = header.num_bytes
    for row in rows:
        num_bytes += row.num_bytes
        if row.cells or row.problem:
            item = _item(row, header.cells, raw, reading, encoding, num_bytes)
            counts.count([item])
            yield item
            num_bytes = 0
    counts.check(reading, kind="a table whose first row names its columns")


def _item(
    row: "_Row", header: list[str], raw: RawInput, reading: Reading, encoding: Encoding, num_bytes: int
) -> Document | Dropped:
    place = f"{raw.source}:{row.line}"
    problem = row.problem
    if problem is None and len(row.cells) != len(header):
        problem = f"{len(row.cells)} cells, expected {len(header)} as in the first row"
    if problem is not None:
        return Dropped(place, "malformed_row", problem, excerpt(", ".join(row.cells)), num_bytes, raw.format)
    record = dict(zip(header, row.cells, strict=True))
    metadata: dict[str, Any] = {"format": raw.format, "encoding": encoding.name}
    metadata = with_fields(metadata, record, without=reading.text_field)
    return Document.of(record[reading.text_field], source=place, metadata=metadata, num_bytes=num_bytes)


class _Row(NamedTuple):
    line: int
    """Where it begins, from 1."""
    cells: list[str]
    """None at all for a blank line."""
    problem: str | None
    num_bytes: int


def _rows(raw: RawInput, encoding: Encoding, dialect: "_Dialect") -> Iterator[_Row]:
    num_lines = num_bytes = 0

    def lines() -> Iterator[str]:
        nonlocal num_lines, num_bytes
        for line, size in text_lines(raw, encoding):
            num_lines += 1
            num_bytes += size
            yield line

    reader = dialect.reader(lines())
    while True:
        first_line = num_lines + 1
        num_bytes = 0
        # The reader takes one line after the other, so what it took for a row is what the row consists of.
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _Row(first_line, [], str(error), num_bytes)
        else:
            yield _Row(first_line, cells, None, num_bytes)


class _Dialect(NamedTuple):
    """How a table is written."""

    delimiter: str
    quoting: int
    escape: str | None
    """What stands in front of a quotation mark within quotation marks; None = another one."""

    def reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """The rows of a table; what does not keep to the dialect is an error, and the next row is read after it."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=self.quoting,  # type: ignore[arg-type]  # the stubs want the literal numbers
            escapechar=self.escape,
            doublequote=self.escape is None,
            strict=True,
        )


_DIALECTS = [
    *(_Dialect(delimiter, csv.QUOTE_MINIMAL, escape) for escape in (None, "\\") for delimiter in ",;\t|"),
    # Tables separated by tabs are often written without quoting, as their standard has it.
    _Dialect("\t", csv.QUOTE_NONE, None),
]


def _dialect(raw: RawInput, reading: Reading, encoding: Encoding) -> _Dialect:
    """The dialect that fits the beginning best; of several the first."""
    lines = [line for line, _ in itertools.islice(text_lines(raw, encoding), SAMPLE_LINES)]
    sample = "".join(lines)[:SAMPLE_CHARACTERS]
    is_all = len(lines) < SAMPLE_LINES and len(sample) < SAMPLE_CHARACTERS
    return max(_DIALECTS, key=lambda dialect: _fit(dialect, sample, is_all, reading.text_field))


def _fit(dialect: _Dialect, sample: str, is_all: bool, text_field: str) -> tuple[bool, float, int, int, int]:
    """How well a dialect fits: whether the first row names the column; the share of rows that have as many cells as it;
    how few cells hold a mark that seems to be escaped; how many cells a row has; and how many rows there are, for an
    open quotation mark may make one cell of many rows."""
    reader = dialect.reader(io.StringIO(sample, newline="\n"))
    widths: list[int] = []
    header: list[str] = []
    num_escapes = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error:
            widths.append(-1)
            continue
        if row:
            header = header or row
            widths.append(len(row))
            num_escapes += sum('\\"' in cell for cell in row)
    if not is_all and len(widths) > 2:
        widths.pop()  # the sample ends within it
    share = sum(width == len(header) for width in widths) / max(len(widths), 1)
    # A delimiter that does not occur makes one column of everything, in perfect harmony.
    return text_field in header, share if len(header) > 1 else 0.0, -num_escapes, len(header), len(widths)
