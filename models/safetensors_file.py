"""Tensors in one safetensors file: written durably and without a second copy in memory, checked, read.

Knows nothing of what the tensors are for.
"""

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core.errors import CorruptArtifactError, DataError
from core.files import LOCAL_DISK, Disk, atomic_writer

DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")
HEADER_ALIGNMENT_BYTES = 8
"""Data begins at a multiple of this, as the format asks (huggingface/safetensors, README, "Format")."""


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    disk: Disk = LOCAL_DISK,
) -> None:
    """Write `tensors` to `path`, entirely or not at all, one tensor at a time.

    The library's own `save_file` is not used because it reports a full disk as a message without a number and
    writes in place.

    Args:
        metadata: Free text beside them; `{"format": "pt"}` is what transformers expects of weights.
        dtype: Floating-point tensors are converted to it; None = written as they are.

    Raises:
        DiskError: the disk is full, read-only or failing.
    """

    def written_dtype(tensor: Tensor) -> torch.dtype:
        return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype

    # Widest types first, so that every tensor begins at a multiple of its own width.
    names = sorted(tensors, key=lambda name: (-written_dtype(tensors[name]).itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * written_dtype(tensor).itemsize
        header[name] = {
            "dtype": DTYPE_NAMES[written_dtype(tensor)],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % HEADER_ALIGNMENT_BYTES)
    with atomic_writer(path, disk=disk) as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for name in names:
            tensor = tensors[name].detach().to(device="cpu", dtype=written_dtype(tensors[name])).contiguous()
            # NumPy has no bfloat16: bytes are bytes.
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


def read_shapes(path: str | Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type (`F32`, ...) and shape of every tensor in the file; no tensor is read.

    Raises:
        CorruptArtifactError: the file is cut off or is no safetensors file.
    """
    shapes = {}
    # Not as torch's: it asks the system for as much memory as the file is long.
    with _opened(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
            tensor = file.get_slice(name)
            shapes[name] = (str(tensor.get_dtype()), tuple(tensor.get_shape()))
    return shapes


@contextlib.contextmanager
def _opened(path: str | Path, *, framework: str) -> Iterator[Any]:
    try:
        with safe_open(str(path), framework=framework) as file:
            yield file
    except SafetensorError as error:
        raise CorruptArtifactError(
            f"{path}: not a whole safetensors file ({error!s:.300}); copy it again, or use another checkpoint"
        ) from None
    except MemoryError as error:
        raise _too_large(path, error) from None
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        raise _too_large(path, error) from None


def _too_large(path: str | Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: {Path(path).stat().st_size / 1e9:,.1f} GB, which memory does not hold here ({error!s:.300}); use a "
        "machine with more"
    )


def read_tensors(
    path: str | Path,
    *,
    names: Collection[str] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """Tensors of a file, in memory of their own.

    Args:
        names: Which of them, where the file has them; None = all.
        dtype: Floating-point tensors are converted to it, one at a time; None = as they are in the file.

    Raises:
        CorruptArtifactError: the file is cut off or is no safetensors file.
        DataError: it is larger than memory.
    """
    tensors = {}
    found = read_shapes(path)
    with _opened(path, framework="pt") as file:
        for name in (name for name in found if names is None or name in names):
            tensor = file.get_tensor(name)
            wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
            # Copied, because what safetensors returns may be a mapping of the file: cutting the file would then
            # kill the process (SIGBUS) long after it was read.
            tensors[name] = tensor.to(device=device, dtype=wanted, copy=True)
    return tensors
