"""The members of tar archives, read from the beginning to the end. Links and devices are not followed."""

import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Self, cast

from data_processing.document import Dropped
from data_processing.formats.compression import DamagedError
from data_processing.formats.raw_input import RawInput
from data_processing.formats.unpacking import (
    ByteSource,
    UnpackingBudget,
    lost,
    member_of,
    names_seen,
    reason_to_skip,
    spool,
)
from data_processing.sources.raw_files import escape_name

MAX_HEADER_BYTES = 1 << 20
"""Extended headers (long names, pax records) are read as a whole; longer ones are taken for damage. Arbitrary: a path
has 4096 bytes at most."""

_TAR_ERRORS = (tarfile.TarError, ValueError, OverflowError)
_EXTENDED_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


def is_tar(head: bytes) -> bool:
    """Whether data that begins so is a tar archive: whether the checksum of its first header is right.

    >>> is_tar(b"no archive" * 100)
    False
    """
    field = head[148:156]
    if len(head) < 512 or field.strip(b"01234567 \0") or not field.strip(b" \0"):
        return False
    digits = field.split(b"\0")[0].strip() or field.strip(b" \0")
    return digits.isdigit() and int(digits, 8) == sum(head[:148]) + 8 * 0x20 + sum(head[156:512])


class _TarHeader(tarfile.TarInfo):
    """A header of tar that says more of what is wrong than `tarfile`, which takes a broken header for the end."""

    problem: str | None = None

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding or "utf-8", errors)
        except tarfile.HeaderError as error:
            # Two blocks of zeros are the end that an archive should have.
            cls.problem = None if buf and not buf.strip(b"\0") else str(error)
            raise
        if header.size < 0 or (header.type in _EXTENDED_HEADERS and header.size > MAX_HEADER_BYTES):
            cls.problem = f"a header says that it has {header.size} bytes"
            raise tarfile.HeaderError(cls.problem)
        return header


def tar_members(
    stream: ByteSource, raw: RawInput, budget: UnpackingBudget, spend: Callable[[int], None]
) -> Iterator[RawInput | Dropped]:
    """The members of a tar archive, read from its beginning to its end.

    Args:
        spend: Called with the bytes of each member; nothing to pay where `stream` is unpacked and paid for.
    """
    # A class of its own, because `tarfile` makes the headers itself and nothing else tells of their errors.
    header_class: type[_TarHeader] = type("_TarHeaderOfOneArchive", (_TarHeader,), {})
    source_of = names_seen(raw)
    num_members = 0
    try:
        # Read as a stream: what a hostile header says can lead forward only.
        archive = tarfile.open(  # noqa: SIM115 - nothing to close: the file is the caller's
            fileobj=cast(IO[bytes], stream),
            mode="r|",
            tarinfo=header_class,
            encoding="utf-8",
            errors="surrogateescape",
        )
        while not budget.stopped and (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it would remember all of them
            num_members += 1
            budget.enter()
            if info.isdir():
                continue
            source = source_of(info.name)
            if why := reason_to_skip(info.name) or _reason_not_to_untar(info):
                yield Dropped(source, *why, format=raw.format)
                continue
            content = archive.extractfile(info)
            assert content is not None, "it is a regular file"
            # The holes of a sparse file are made by tarfile, from nothing.
            spooled = spool(content, budget.spend if info.issparse() else spend, (*_TAR_ERRORS, DamagedError))
            with spooled.file:
                if spooled.problem is None:
                    yield member_of(raw, source, info.name, spooled)
                else:
                    yield lost(raw, source, spooled)
                    return
        problem = header_class.problem
    except (*_TAR_ERRORS, DamagedError) as error:
        problem = str(error)
    if problem is not None and not budget.stopped:
        detail = f"after {num_members} members: {problem}; fetch or pack it again"
        yield raw.dropped("damaged_archive", detail, num_bytes=0 if num_members else raw.num_bytes)


def _reason_not_to_untar(info: tarfile.TarInfo) -> tuple[str, str] | None:
    if info.isreg():
        return None
    if info.issym() or info.islnk():
        return "not_a_file", f"is a link to {escape_name(info.linkname)!r}"
    return "not_a_file", "is a pipe or device"
