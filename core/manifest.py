"""What a finished directory holds, with sizes and hashes, and whether it still does. Knows no stage and no tensor."""

import errno
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import CorruptArtifactError, MismatchError
from core.files import LOCAL_DISK, Disk, sha256_file, sha256_json, write_json
from core.progress import progress

MANIFEST_NAME = "MANIFEST.json"
FORMAT_VERSION = 1

FULL_CHECK_BYTES = 256 << 20
"""Larger files are checked by size alone unless a full check is asked for: hashing reads about 1.8 GB/s."""


def describe_files(directory: Path, paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Path (relative to `directory`, with forward slashes), size in bytes and SHA-256 of each file, sorted."""
    return [
        {
            "path": path.relative_to(directory).as_posix(),
            "size": path.stat().st_size,
            "sha256": sha256_file(path),
        }
        for path in sorted(paths)
    ]


def content_fingerprint(files: Sequence[Mapping[str, Any]]) -> str:
    """One hash over the names and contents that `describe_files` found."""
    return sha256_json([[file["path"], file["sha256"]] for file in files])


def write_manifest(directory: Path, content: Mapping[str, Any], *, disk: Disk = LOCAL_DISK) -> None:
    """Write the manifest of `directory`: the last file that is written there."""
    write_json(directory / MANIFEST_NAME, {"format_version": FORMAT_VERSION, **content}, disk=disk)


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """The manifest of `directory`, or None where there is none.

    Raises:
        CorruptArtifactError: the manifest is no JSON object, or lacks what every manifest has.
        MismatchError: it was written by a newer version, which is no damage: nothing older may take its place.
    """
    path = directory / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise CorruptArtifactError(f"{path}: not a manifest ({error})") from None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise CorruptArtifactError(f"{path}: the disk cannot read it ({error.strerror})") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format_version"), int):
        raise CorruptArtifactError(f"{path}: not a manifest (no format_version)")
    if manifest["format_version"] > FORMAT_VERSION:
        raise MismatchError(
            f"{path}: written by a newer version (format {manifest['format_version']}, this one reads "
            f"{FORMAT_VERSION}); update the program"
        )
    return manifest


def verify_files(directory: Path, files: Sequence[Mapping[str, Any]], *, full: bool = False) -> None:
    """Compare files with their recorded sizes and hashes.

    Args:
        full: Hash files of any size; otherwise those above `FULL_CHECK_BYTES` are compared by size.

    Raises:
        CorruptArtifactError: a file is missing, has another size or another content; the message names it.
    """
    for file, damage in _damages(directory, files, full=full):
        raise CorruptArtifactError(f"{directory / file['path']}: {damage}")


def damaged_files(directory: Path, files: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of `files` that are missing or not what was written; every byte is read."""
    return [file for file, _ in _damages(directory, files, full=True)]


def _damages(
    directory: Path, files: Sequence[Mapping[str, Any]], *, full: bool
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Each file that is not what was written, and what is wrong with it."""
    total = sum(file["size"] for file in files)
    with progress(total=total, description=f"checking {directory.name}", unit="B") as bar:
        checked = 0
        for file in files:
            damage = _damage(directory / file["path"], file, full=full, seen=bar.update)
            checked += file["size"]
            bar.update(checked - bar.n)  # what was not read
            if damage is not None:
                yield file, damage


def _damage(path: Path, file: Mapping[str, Any], *, full: bool, seen: Callable[[int], object]) -> str | None:
    if not path.is_file():
        return "missing, but the manifest beside it lists it"
    size = path.stat().st_size
    if size != file["size"]:
        return f"{size} bytes long, the manifest says {file['size']}"
    try:
        if (full or size <= FULL_CHECK_BYTES) and sha256_file(path, seen=seen) != file["sha256"]:
            return "its content changed since it was written (sha256 differs)"
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return f"the disk cannot read it ({error.strerror})"
    return None
