"""What a finished directory holds, with sizes and hashes, and whether it still does. Knows no stage and no tensor."""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from core.errors import CorruptArtifactError, MismatchError
from core.files import LOCAL_DISK, LONGEST_NAME_BYTES, Disk, sha256_file, sha256_json, write_json
from core.json_files import json_object
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
        CorruptArtifactError: the manifest is no JSON object, lacks what every manifest has, holds something else where
            a stage, a recipe or the list of files should be, or names a file outside of `directory`.
        MismatchError: it was written by a newer version, which is no damage: nothing older may take its place.
    """
    path = directory / MANIFEST_NAME
    try:
        manifest = json_object(path, mistake=CorruptArtifactError)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise CorruptArtifactError(f"{path}: the disk cannot read it ({error.strerror})") from None
    if type(manifest.get("format_version")) is not int:
        raise CorruptArtifactError(f"{path}: not a manifest (no format_version)")
    if manifest["format_version"] > FORMAT_VERSION:
        raise MismatchError(
            f"{path}: written by a newer version (format {manifest['format_version']}, this one reads "
            f"{FORMAT_VERSION}); update the program"
        )
    _check_kinds(manifest, _KINDS, f"{path}: ")
    _check_kinds(manifest.get("recipe", {}), _RECIPE_KINDS, f"{path}: recipe.")
    for number, file in enumerate(manifest.get("files", ())):
        _check_entry(file, f"{path}: files[{number}]")
    return manifest


_KINDS: Mapping[str, type] = {
    "status": str,
    "stage": str,
    "step": int,
    "recipe": dict,
    "recipe_fingerprint": str,
    "fingerprint": str,
    "config": dict,
    "metrics": dict,
    "versions": dict,
    "files": list,
}
_RECIPE_KINDS: Mapping[str, type] = {
    "stage": str,
    "version": int,
    "settings": dict,
    "inputs": dict,
    "sources": dict,
}


def _check_kinds(values: Mapping[str, Any], kinds: Mapping[str, type], origin: str) -> None:
    """Refuse other kinds of values; who needs one of them to be there says so."""
    for key, kind in kinds.items():
        if key in values and type(values[key]) is not kind:
            raise CorruptArtifactError(f"{origin}{key} is {values[key]!r:.80}, expected {kind.__name__}")


def _check_entry(file: Any, origin: str) -> None:
    """Refuse what is no file with size and hash, or leads out of the directory: such a name is of no artifact of ours,
    and whoever follows it reads any file of the machine."""
    if not isinstance(file, dict) or not {"path", "size", "sha256"} <= file.keys():
        raise CorruptArtifactError(f"{origin} is {file!r:.80}, expected a path, a size and a sha256")
    name, size = file["path"], file["size"]
    if not isinstance(name, str) or _leads_out(name):
        raise CorruptArtifactError(f"{origin}.path is {name!r:.80}, expected a name within the directory")
    if type(size) is not int or size < 0:
        raise CorruptArtifactError(f"{origin}.size is {size!r:.80}, expected a number of bytes")
    if not isinstance(file["sha256"], str):
        raise CorruptArtifactError(f"{origin}.sha256 is {file['sha256']!r:.80}, expected hexadecimal digits")


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name)
    # What is a directory or a drive on Windows is refused everywhere: artifacts travel.
    foreign = {"\0", "\\", ":"} & set(name)
    # Half of a surrogate pair is no character.
    too_long = any(len(part.encode("utf-8", "surrogatepass")) > LONGEST_NAME_BYTES for part in path.parts)
    is_text = not any("\ud800" <= character <= "\udfff" for character in name)
    return (
        not path.name or path.is_absolute() or ".." in path.parts or bool(foreign) or too_long or not is_text
    )


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
