"""One JSON object out of a file that anybody may have written: of bounded size and depth, mistakes named by line.

Knows no setting and no artifact.
"""

import json
from pathlib import Path
from typing import Any

from core.errors import BloomeryError, ConfigError

LARGEST_BYTES = 64 << 20
"""Of a file that is read as one object (arbitrary: a manifest has some 200 bytes a file, an index some 100 a tensor). A
file of holes takes no room on the disk, and all of the memory when it is read."""


def json_object(path: Path, *, mistake: type[BloomeryError] = ConfigError) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        mistake: Raised for content that is none; the message names file and line.

    Raises:
        OSError: the file cannot be read.
        BloomeryError: it is too large, not UTF-8, not valid JSON, nested too deeply, no object, or repeats a key.
    """

    def refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise mistake(f"{path}: key {twice!r} stands twice; remove one of them")
        return found

    with path.open("rb") as file:
        content = file.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise mistake(f"{path}: larger than {LARGEST_BYTES >> 20} MiB, which no such file is")
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=refuse_repeated)
    except UnicodeDecodeError as error:
        raise mistake(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise mistake(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise mistake(f"{path}: not usable JSON: nested too deeply") from None
    except BloomeryError:
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise mistake(f"{path}: not usable JSON: {error}") from None
    if not isinstance(value, dict):
        raise mistake(f"{path}: expected a JSON object {{...}}, found {type(value).__name__}")
    return value


def read_json_object(path: Path) -> dict[str, Any]:
    """As `json_object`, of a file that has to be there.

    Raises:
        ConfigError: it is missing, cannot be read, or holds what `json_object` refuses.
    """
    try:
        return json_object(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
