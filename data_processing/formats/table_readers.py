"""Readers of Parquet and Arrow files, a batch of rows at a time. Know no rule of quality."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from data_processing.document import Document, Dropped, excerpt
from data_processing.formats.raw_input import RawInput, Reading
from data_processing.formats.records import items_of_record, steps_of, with_rest

if TYPE_CHECKING:
    import pyarrow

BATCH_BYTES = 16 << 20
"""Rows of about so much are read at once; arbitrary."""

MAX_BATCH_ROWS = 4096

Items = Iterator[Document | Dropped]


def read_parquet(raw: RawInput, reading: Reading) -> Items:
    """One document a row of a Parquet file, from the column that `reading.text_field` names.

    A path such as `meta.body` goes into structs, `items[].text` into lists. Rows are counted from 0; other columns of
    numbers and short texts go to the metadata. What of a damaged file was read before the damage is kept.
    """
    return with_rest(raw, _checked(raw, _parquet_items(raw, reading)))


def read_arrow(raw: RawInput, reading: Reading) -> Items:
    """As `read_parquet`, of an Arrow file (Feather) or stream; a record batch is read at once."""
    return with_rest(raw, _checked(raw, _arrow_items(raw, reading)))


def _checked(raw: RawInput, items: Items) -> Items:
    """The items, and what pyarrow says of the rest when it cannot be read."""
    import pyarrow

    try:
        yield from items
    except OSError as error:
        if error.errno is not None:  # the disk; without a number it is pyarrow that objects to the data
            raise
        yield raw.dropped("malformed_table", f"{_first_line(error)}; write it anew", num_bytes=0)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:  # the latter for names of columns
        yield raw.dropped("malformed_table", f"{_first_line(error)}; write it anew", num_bytes=0)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _parquet_items(raw: RawInput, reading: Reading) -> Items:
    import pyarrow.parquet

    raw.file.seek(0)
    file = pyarrow.parquet.ParquetFile(raw.file)
    columns = _columns(file.schema_arrow, reading)
    if columns is None:
        yield _no_column(file.schema_arrow, raw, reading)
        return
    num_rows = file.metadata.num_rows
    groups = range(file.metadata.num_row_groups)
    unpacked_bytes = sum(file.metadata.row_group(group).total_byte_size for group in groups)
    batch_rows = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES * num_rows // max(unpacked_bytes, 1)))
    first_row = 0
    for batch in file.iter_batches(batch_rows, columns=columns, use_threads=False):
        # Packed together, rows have no bytes of their own: each counts as the same share of the file.
        num_bytes = _share(raw.num_bytes, first_row + batch.num_rows, num_rows)
        num_bytes -= _share(raw.num_bytes, first_row, num_rows)
        yield from _batch_items(batch, first_row, num_bytes, raw, reading)
        first_row += batch.num_rows


def _arrow_items(raw: RawInput, reading: Reading) -> Items:
    import pyarrow.ipc

    raw.file.seek(0)
    is_stream = raw.file.read(6) != b"ARROW1"
    raw.file.seek(0)
    open_ = pyarrow.ipc.open_stream if is_stream else pyarrow.ipc.open_file
    schema = open_(raw.file).schema
    columns = _columns(schema, reading)
    if columns is None:
        yield _no_column(schema, raw, reading)
        return
    options = pyarrow.ipc.IpcReadOptions(
        included_fields=[schema.get_field_index(name) for name in columns], use_threads=False
    )
    raw.file.seek(0)
    file = open_(raw.file, options=options)
    batches = file if is_stream else map(file.get_batch, range(file.num_record_batches))
    num_batches = None if is_stream else file.num_record_batches
    first_row = counted = 0
    for number, batch in enumerate(batches, start=1):
        # A stream is read from its beginning to its end, so its batches have places in it.
        end = raw.file.tell() if num_batches is None else _share(raw.num_bytes, number, num_batches)
        yield from _batch_items(batch, first_row, end - counted, raw, reading)
        first_row += batch.num_rows
        counted = end


def _columns(schema: "pyarrow.Schema", reading: Reading) -> list[str] | None:
    """The columns to read: the one that holds the text, and those that can travel along; None without the first."""
    import pyarrow.types

    field = reading.text_field
    column = field if field in schema.names else steps_of(field)[0]
    if column not in schema.names:
        return None

    def is_simple_type(type_: "pyarrow.DataType") -> bool:
        kinds = ("is_integer", "is_floating", "is_boolean", "is_string", "is_large_string", "is_string_view")
        return any(getattr(pyarrow.types, kind)(type_) for kind in kinds)

    others = [other.name for other in schema if other.name != column and is_simple_type(other.type)]
    return [column, *others]


def _no_column(schema: "pyarrow.Schema", raw: RawInput, reading: Reading) -> Dropped:
    detail = (
        f"no column {reading.text_field!r} (columns here: {excerpt(', '.join(schema.names)) or 'none'}); set "
        "data.text_field to the column that holds the text"
    )
    return raw.dropped("no_text_field", detail, num_bytes=0)


def _batch_items(
    batch: "pyarrow.RecordBatch", first_row: int, num_bytes: int, raw: RawInput, reading: Reading
) -> Items:
    import pyarrow

    if batch.num_rows == 0:
        return
    try:
        # Offsets and UTF-8 as well: neither format has checksums that pyarrow looks at, and a wrong offset would be
        # read as it stands.
        batch.validate(full=True)
    except pyarrow.ArrowInvalid as error:
        rows = f"{raw.source}[{first_row}:{first_row + batch.num_rows}]"
        yield Dropped(rows, "malformed_table", _first_line(error), num_bytes=num_bytes, format=raw.format)
        return
    metadata = {"format": raw.format}
    names = batch.schema.names
    columns = [column.to_pylist() for column in batch.columns]
    for index, values in enumerate(zip(*columns, strict=True)):
        size = _share(num_bytes, index + 1, batch.num_rows) - _share(num_bytes, index, batch.num_rows)
        yield from items_of_record(
            dict(zip(names, values, strict=True)),
            reading,
            source=f"{raw.source}[{first_row + index}]",
            metadata=metadata,
            num_bytes=size,
            raw="",
        )


def _share(total: int, part: int, whole: int) -> int:
    return total * part // whole
