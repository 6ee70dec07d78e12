"""The text of a file that a setting names. Knows nothing of what is in it."""

from pathlib import Path

from core.errors import DataError


def named_text(path: Path, *, setting: str) -> str:
    """The characters of a file in UTF-8, without a byte-order mark.

    Raises:
        DataError: it cannot be read or is not UTF-8; the message names the setting.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{setting}: {path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(
            f"{setting}: {path} cannot be read ({error.strerror}); expected a text file"
        ) from None
