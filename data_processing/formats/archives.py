"""The members of archives and what compressed files hold, each as an input of its own. Reads no format."""

from collections.abc import Iterator

from data_processing.document import Dropped
from data_processing.formats.compression import COMPRESSIONS, DamagedError, Unpacked
from data_processing.formats.raw_input import RawInput
from data_processing.formats.tar_archives import is_tar, tar_members
from data_processing.formats.unpacking import UnpackingBudget, UnpackingStopped, free, lost, member_of, spool
from data_processing.formats.zip_archives import zip_members

CONTAINERS = COMPRESSIONS | {".zip", ".tar"}
"""The formats that hold other files."""

TAR_SUFFIXES = (".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".taz")
"""Extensions of compressed tar archives."""

HEAD_BYTES = 4096
"""So much of what is unpacked is looked at first."""


def unpack(raw: RawInput, budget: UnpackingBudget) -> Iterator[RawInput | Dropped]:
    """The members of an archive (`raw.format` is one of `CONTAINERS`), or the one thing that a compressed file holds.

    Each is open until the next one is asked for; its format is the extension of its name. Directories are passed over.
    Bytes are those that were unpacked: 0 for a member that was not. An archive of which nothing can be unpacked counts
    with its own.

    Raises:
        OSError: the archive cannot be read.
        DiskError: there is no room for a temporary file.
    """
    try:
        if raw.format == ".zip":
            yield from zip_members(raw, budget)
        elif raw.format == ".tar":
            yield from tar_members(raw.file, raw, budget, budget.spend)
        else:
            yield from _unpacked(raw, budget)
    except UnpackingStopped as stop:
        yield raw.dropped(stop.reason, stop.detail, num_bytes=0)


def _unpacked(raw: RawInput, budget: UnpackingBudget) -> Iterator[RawInput | Dropped]:
    """What a compressed file holds; of a compressed tar archive, its members, as they are unpacked."""
    stream = Unpacked(raw.file, raw.format, budget.spend)
    try:
        head = stream.peek(HEAD_BYTES)
    except DamagedError as error:
        yield raw.dropped("damaged_archive", f"{error}; fetch or pack it again")
        return
    name = _inner_name(raw)
    if is_tar(head) or name.endswith(".tar"):
        yield from tar_members(stream, raw, budget, free)
        if not budget.stopped:
            yield from _check_rest(stream, raw)
        return
    spooled = spool(stream, free, (DamagedError,))
    with spooled.file:
        if spooled.problem is None:
            yield member_of(raw, raw.source, name, spooled)
        elif isinstance(spooled.problem, DamagedError) and spooled.problem.cut_off and spooled.num_bytes:
            yield member_of(raw, raw.source, name, spooled)
            detail = f"{spooled.problem}; {spooled.num_bytes} bytes before that are kept; fetch it again"
            yield raw.dropped("damaged_archive", detail, num_bytes=0)
        else:
            yield lost(raw, raw.source, spooled)
    if stream.trailing:
        detail = "something else follows the compressed data; it is not read"
        yield raw.dropped("damaged_archive", detail, num_bytes=0)


def _check_rest(stream: Unpacked, raw: RawInput) -> Iterator[Dropped]:
    """Read on to the end, where the checksum of all that was read stands."""
    try:
        while stream.read(HEAD_BYTES):
            pass
    except DamagedError as error:
        if not error.cut_off:
            detail = f"{error}, and some of its members with it: nobody knows which; fetch or pack it again"
            yield raw.dropped("damaged_archive", detail, num_bytes=0)


def _inner_name(raw: RawInput) -> str:
    """`a.jsonl` of `a.jsonl.gz`, `a.tar` of `a.tgz`; a name that does not tell of compression stays."""
    stem, dot, suffix = raw.source.rpartition(".")
    suffix = dot + suffix.lower()
    if suffix in COMPRESSIONS:
        return stem
    return f"{stem}.tar" if suffix in TAR_SUFFIXES else raw.source
