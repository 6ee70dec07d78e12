"""A result in a file of its own, made once: a killed evaluation goes on where it was. Knows no figure."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.errors import BloomeryError
from core.files import remove_leftovers, sha256_json, write_json
from core.json_files import json_object

logger = logging.getLogger(__name__)


def stored(
    place: Path, recipe: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """The result in the file `place` if it was made by this recipe, else what `compute` returns, which goes there.

    The file appears whole or not at all. A result of another recipe is replaced: whoever wants to keep it names
    another place.

    Raises:
        DiskError: it cannot be written.
    """
    fingerprint = sha256_json(recipe)
    if (done := _read(place)) is not None and done.get("fingerprint") == fingerprint:
        logger.info("%s: done already", place)
        return done
    remove_leftovers(place)
    started = time.monotonic()
    computed = compute()
    own = {
        "fingerprint": fingerprint,
        "recipe": dict(recipe),
        "elapsed_seconds": time.monotonic() - started,
    }
    assert not own.keys() & computed.keys()
    write_json(place, {**own, **computed})
    return json_object(place)  # as whoever finds it there gets it: JSON has no tuples


def _read(place: Path) -> dict[str, Any] | None:
    if not place.is_file():
        return None
    try:
        return json_object(place)
    except BloomeryError as error:  # damaged, or somebody else's
        logger.warning("%s; it is made anew", error)
        return None
