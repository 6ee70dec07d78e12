"""The members of zip archives. Links are not followed, and no header is believed where that would cost memory."""

import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator

from data_processing.document import Dropped
from data_processing.formats.raw_input import RawInput
from data_processing.formats.unpacking import (
    UnpackingBudget,
    is_about_data,
    lost,
    member_of,
    names_seen,
    reason_to_skip,
    spool,
)

ENTRY_BYTES = 46
"""An entry in a zip archive's list of members has at least so many bytes."""

END_RECORDS_BYTES = 76 + 22 + 65_535
"""Where the end record of a zip archive begins, counted from its end: two records and a comment, at most."""

# What `zipfile` raises for damaged data, beside OSError (`is_about_data`).
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, struct.error)


def zip_members(raw: RawInput, budget: UnpackingBudget) -> Iterator[RawInput | Dropped]:
    """The members of a zip archive, in the order of its list of members."""
    source_of = names_seen(raw)
    try:
        _count_entries(raw, budget)
        archive = zipfile.ZipFile(raw.file)
    except NotImplementedError as error:
        yield raw.dropped("unsupported_format", f"{error}; pack it again")
        return
    except ZIP_ERRORS as error:
        yield raw.dropped("damaged_archive", f"{error}; fetch or pack it again")
        return
    with archive:
        for info in archive.infolist():
            if budget.stopped:
                return
            budget.enter()
            if info.is_dir():
                continue
            source = source_of(info.filename)
            if why := reason_to_skip(info.filename) or _reason_not_to_unzip(info):
                yield Dropped(source, *why, format=raw.format)
            else:
                yield from _zip_member(archive, info, raw, source, budget)


def _reason_not_to_unzip(info: zipfile.ZipInfo) -> tuple[str, str] | None:
    # The upper half of the attributes is Unix's mode, if it is anything.
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "not_a_file", "is a link" if stat.S_ISLNK(mode) else "is a special file"
    if info.flag_bits & 1:
        return "encrypted", "needs a password; pack it again without one"
    return None


def _zip_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, raw: RawInput, source: str, budget: UnpackingBudget
) -> Iterator[RawInput | Dropped]:
    try:
        stream = archive.open(info)
    except NotImplementedError as error:
        yield Dropped(source, "unsupported_format", f"{error}; pack it again", format=raw.format)
        return
    except (*ZIP_ERRORS, OSError) as error:
        if isinstance(error, OSError) and not is_about_data(error):
            raise
        yield Dropped(source, "damaged_archive", f"{error}; fetch or pack it again", format=raw.format)
        return
    with stream:
        spooled = spool(stream, budget.spend, ZIP_ERRORS)
    with spooled.file:
        if spooled.problem is None:
            yield member_of(raw, source, info.filename, spooled)
        else:
            yield lost(raw, source, spooled)


def _count_entries(raw: RawInput, budget: UnpackingBudget) -> None:
    """Have the members counted before `zipfile` makes an object of each (600 bytes of memory, from 46 in the file).

    Only where the list of them is long enough to hold more than are allowed. Their number as the archive states it may
    be a lie; `zipfile` does not look at it either.
    """
    begin, end = _central_directory(raw)
    if (end - begin) // ENTRY_BYTES <= budget.max_members:
        return
    num_members = 0
    place = begin
    while place < end:
        raw.file.seek(place)
        entry = raw.file.read(ENTRY_BYTES)
        if len(entry) < ENTRY_BYTES:
            raise zipfile.BadZipFile("its list of members is cut off")
        place += ENTRY_BYTES + sum(struct.unpack_from("<3H", entry, 28))  # name, extra fields, comment
        num_members += 1
        budget.foresee(num_members)


def _central_directory(raw: RawInput) -> tuple[int, int]:
    """Where the list of members begins and ends, found as `zipfile` finds it (APPNOTE.TXT 4.3.14 and 4.3.16)."""
    before = max(0, raw.num_bytes - END_RECORDS_BYTES)
    raw.file.seek(before)
    tail = raw.file.read(END_RECORDS_BYTES)
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < 22:
        raise zipfile.BadZipFile("it has no end record: cut off, or not a zip archive")
    (size,) = struct.unpack_from("<L", tail, place + 12)
    if tail[max(0, place - 20) :].startswith(b"PK\6\7") and tail[max(0, place - 76) :].startswith(b"PK\6\6"):
        place -= 76  # the records of large archives stand in front
        (size,) = struct.unpack_from("<Q", tail, place + 40)
    if before + place < size:
        raise zipfile.BadZipFile("its list of members would begin before the file")
    return before + place - size, before + place
