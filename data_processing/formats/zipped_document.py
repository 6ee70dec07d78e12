"""Documents that are zip archives inside (epub, docx, odt): their members, within the limits of reading.

Knows none of these formats.
"""

import zipfile
from collections.abc import Iterator

from core.data_config import ReadingConfig
from data_processing.formats.input_bytes import CHUNK_BYTES
from data_processing.formats.not_readable import NotReadableError
from data_processing.formats.raw_input import RawInput
from data_processing.formats.unpacking import UnpackingBudget, UnpackingStopped, is_about_data
from data_processing.formats.zip_archives import ZIP_ERRORS

# RuntimeError is how `zipfile` asks for a password.
_DAMAGE = (*ZIP_ERRORS, NotImplementedError, RuntimeError, OverflowError)


class ZippedDocument:
    """The members of a document that is a zip archive; names are keys here and never become paths.

    Raises:
        NotReadableError: it is no zip archive, or has too many members.
    """

    def __init__(self, raw: RawInput, limits: ReadingConfig) -> None:
        raw.file.seek(0)
        try:
            self._archive = zipfile.ZipFile(raw.file)
        except (*_DAMAGE, OSError) as error:
            raise _damaged("not a readable zip archive", error) from None
        self._budget = UnpackingBudget(limits, packed_bytes=raw.num_bytes)
        self._members = {member.filename: member for member in self._archive.infolist()}
        try:
            self._budget.foresee(len(self._members))
        except UnpackingStopped as stop:
            raise NotReadableError(stop.reason, stop.detail) from None

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def packed_bytes(self, name: str) -> int:
        """What a member takes in the archive, in bytes; 0 when it is missing."""
        return self._members[name].compress_size if name in self._members else 0

    def unpacked_bytes(self, name: str) -> int:
        """How large a member says it is unpacked, in bytes; it gives no more than this. 0 when it is missing."""
        return self._members[name].file_size if name in self._members else 0

    def stream(self, name: str) -> Iterator[bytes]:
        """A member's bytes, piece by piece.

        Raises:
            NotReadableError: it is missing, damaged or protected, or all that was read so far goes beyond the limits.
        """
        if name not in self._members:
            raise NotReadableError("malformed_document", f"{name!r} is missing in it")
        member = self._members[name]
        if member.flag_bits & 1:
            raise NotReadableError("encrypted", f"{name!r} is protected by a password")
        try:
            # A limit that was reached once stays reached: nothing more is unpacked.
            self._budget.spend(0)
            with self._archive.open(member) as file:
                while piece := file.read(CHUNK_BYTES):
                    self._budget.spend(len(piece))
                    yield piece
        except UnpackingStopped as stop:
            raise NotReadableError(stop.reason, stop.detail) from None
        except (*_DAMAGE, OSError) as error:
            raise _damaged(f"{name!r} cannot be unpacked", error) from None


def _damaged(what: str, error: Exception) -> NotReadableError:
    """The error to raise for damaged data; trouble with the disk goes on as it is."""
    if isinstance(error, OSError) and not is_about_data(error):
        raise error
    return NotReadableError("damaged_archive", f"{what}: {error}")
