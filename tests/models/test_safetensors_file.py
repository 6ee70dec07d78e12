from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from core.errors import CorruptArtifactError, DiskError
from models.safetensors_file import DTYPE_NAMES, read_shapes, read_tensors, write_safetensors

shapes = st.lists(st.integers(0, 4), max_size=3)


@settings(max_examples=40, deadline=None)
@given(
    entries=st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(
            lambda name: name != "__metadata__"
        ),
        st.tuples(st.sampled_from(sorted(DTYPE_NAMES, key=str)), shapes),
        max_size=6,
    )
)
def test_the_safetensors_library_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[str, tuple[torch.dtype, list[int]]]
) -> None:
    path = tmp_path_factory.mktemp("tensors") / "x.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randint(0, 2, shape, generator=generator).to(dtype)
        for name, (dtype, shape) in entries.items()
    }
    write_safetensors(path, tensors, metadata={"format": "pt"})
    for read in (load_file(path), read_tensors(path)):
        assert read.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)
    assert read_shapes(path) == {
        name: (DTYPE_NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()
    }


def test_what_the_safetensors_library_wrote_is_read(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5)}
    save_file(tensors, tmp_path / "x.safetensors")
    read = read_tensors(tmp_path / "x.safetensors")
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_metadata_and_views_survive(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"transposed": whole.T, "column": whole[:, 1]}, metadata={"format": "pt"})
    with safe_open(str(path), framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    read = read_tensors(path)
    assert torch.equal(read["transposed"], whole.T) and torch.equal(read["column"], whole[:, 1])


def test_only_floating_point_tensors_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {"weight": torch.tensor([1.0, 2.5]), "step": torch.tensor(7)}
    write_safetensors(path, tensors, dtype=torch.bfloat16)
    assert read_shapes(path) == {"weight": ("BF16", (2,)), "step": ("I64", ())}
    read = read_tensors(path, dtype=torch.float64)
    assert read["weight"].dtype == torch.float64 and read["step"].dtype == torch.int64


def test_a_file_cut_after_reading_does_not_reach_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": torch.ones(100_000)})
    read = read_tensors(path)
    path.write_bytes(b"")
    assert read["a"].sum() == 100_000


def test_a_file_cut_anywhere_is_named_as_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": torch.ones(100), "b": torch.ones(100)})
    whole = path.read_bytes()
    for length in (0, 4, 8, 20, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptArtifactError, match=r"x\.safetensors: not a whole safetensors file"):
            read_tensors(path)


def test_a_full_disk_is_named_and_the_file_before_stays(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": torch.ones(10)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(DiskError, match="the disk is full"):
            write_safetensors(path, {"a": torch.ones(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert torch.equal(read_tensors(path)["a"], torch.ones(10))
