"""An export appears whole and proven or not at all; what is refused is refused with the reason."""

import dataclasses
import errno
import importlib.util
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.errors import (
    BloomeryError,
    ConfigError,
    DataError,
    DiskError,
    LockedError,
    MismatchError,
    MissingDependencyError,
)
from inference.export import formats
from inference.export.certificate import differences, log_softmax
from inference.export.exporting import default_output, export_model
from scripts.export import main


def die(directory: Path, questions: object) -> None:
    """An engine that ends its process."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_unknown_format_is_refused_with_the_known_ones(model_of: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"--to.*ggml.*hf.*gguf"):
        export_model(model_of("llama"), "ggml")


def test_a_dtype_that_a_format_lacks_is_refused_with_those_it_has(model_of: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="--dtype q8_0: expected bfloat16 or float32 or float16 for hf"):
        export_model(model_of("llama"), "hf", dtype="q8_0")


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else find(name))


def test_without_the_engine_an_export_is_refused_with_the_line_that_installs_it(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "transformers")
    with pytest.raises(
        MissingDependencyError, match=r"proven by transformers.*pip install -e '\.\[export\]'.*--unproven"
    ):
        export_model(model_of("llama"), "hf", output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_without_the_writer_an_export_is_refused_even_unproven(
    model_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "gguf")
    with pytest.raises(MissingDependencyError, match=r"--to gguf needs gguf; pip install -e '\.\[export\]'"):
        export_model(model_of("llama"), "gguf", unproven=True)


def test_an_unproven_export_says_so(
    model_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    without(monkeypatch, "transformers")
    assert main([str(model_of("llama")), "--to", "hf", "--unproven", "--output", str(tmp_path / "out")]) == 0
    certificate = json.loads((tmp_path / "out" / "certificate.json").read_bytes())
    assert certificate["proven"] is False
    assert "scores" not in certificate
    assert capsys.readouterr().out.startswith("UNPROVEN: ")


def test_a_place_that_is_taken_is_left_alone(model_of: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="is there already; delete it, or choose another --output"):
        export_model(model_of("llama"), "hf", output=tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_exports_to_one_place_at_a_time_are_one(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second: list[type[Exception]] = []

    def ask_for_the_same(source, directory: Path, **options) -> None:
        with pytest.raises(LockedError, match="out is in use by process") as caught:
            export_model(model_of("llama"), "hf", output=tmp_path / "out", unproven=True)
        second.append(caught.type)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setitem(
        formats.EXPORTS, "hf", dataclasses.replace(formats.EXPORTS["hf"], write=ask_for_the_same)
    )
    with pytest.raises(DiskError, match="Input/output error"):
        export_model(model_of("llama"), "hf", output=tmp_path / "out")
    assert second == [LockedError]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "--output '.': expected the name of a new directory"),
        ("/", "--output '/': expected the name of a new directory"),
        ("file/below", "file: expected a directory, found a file"),
        pytest.param(
            "/proc/new",
            "^/proc: no file can be made there; choose a directory that you may write to",
            marks=pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc"),
        ),
        ("link", "link: is there already"),
    ],
)
def test_a_place_where_no_export_can_be_is_named_before_the_model_is_looked_for(
    output: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("link").symlink_to("nowhere")
    with pytest.raises(BloomeryError, match=reason) as caught:
        main(["no model", "--to", "torchscript", "--output", output])
    assert caught.value.code != "E000"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.parametrize("name", sorted(formats.EXPORTS.keys() - {"hf"}))
def test_a_size_of_files_is_refused_where_there_is_one_file(name: str, tmp_path: Path) -> None:
    reason = f"--max-shard-size: the weights of {name} are in one file, only those of hf can be in several"
    with pytest.raises(ConfigError, match=reason):
        main([str(tmp_path), "--to", name, "--max-shard-size", "1GB"])


def test_a_full_disk_leaves_nothing(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(source, directory: Path, **options) -> None:
        (directory / "half.bin").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(formats.EXPORTS, "hf", dataclasses.replace(formats.EXPORTS["hf"], write=fill))
    with pytest.raises(DiskError, match="the disk is full"):
        export_model(model_of("llama"), "hf", output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_run_keeps_its_exports_together_and_a_model_has_them_beside_it() -> None:
    run, model = Path("runs/mine"), Path("runs/mine/finetune/final")
    assert default_output(run, model, "gguf", "q8_0") == Path("runs/mine/export/gguf-q8_0")
    assert default_output(model, model, "gguf", "q8_0") == Path("runs/mine/finetune/final-gguf-q8_0")


def test_an_engine_that_crashes_is_named_by_its_signal(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = formats.EXPORTS["hf"]
    monkeypatch.setitem(formats.EXPORTS, "hf", dataclasses.replace(entry, answer=die))
    with pytest.raises(MismatchError, match=r"the engine ended by itself \(signal SIGKILL\)"):
        export_model(model_of("llama"), "hf", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_names_the_files_and_the_model_that_it_was_made_from(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.files import sha256_file

    without(monkeypatch, "transformers")
    output, first = export_model(model_of("llama"), "hf", output=tmp_path / "a", unproven=True)
    _, second = export_model(model_of("gpt2"), "hf", output=tmp_path / "b", unproven=True)
    assert first["source"]["fingerprint"] != second["source"]["fingerprint"]
    assert {file["path"]: file["sha256"] for file in first["files"]} == {
        path.name: sha256_file(path) for path in output.iterdir() if path.name != "certificate.json"
    }


def test_a_fresh_process_proves_what_the_script_exports(
    model_of: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("xllamacpp")
    assert main([str(model_of("llama")), "--to", "gguf", "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("proven in xllamacpp (llama.cpp) ")
    assert "conversations: ids of 4 of 4 equal" in out
    assert f"written to {tmp_path / 'out'}" in out


def test_differences_are_those_of_the_formulas() -> None:
    p, q = np.log([[0.5, 0.25, 0.25]]), np.log([[0.25, 0.5, 0.25]])
    found = differences([(p, q + 3.0)])
    assert found["mean_kl_nats"] == pytest.approx(0.25 * np.log(2))
    assert found["max_absolute_difference"] == pytest.approx(3.0 + np.log(2))
    assert found["equal_argmax"] == 0.0
    assert np.exp(log_softmax(q + 3.0)) == pytest.approx(np.exp(q))


@pytest.mark.parametrize("size", ["0", "5XB", "GB", "-1", "1.5GB"])
def test_a_size_that_is_none_is_refused(size: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--max-shard-size {size}: expected a number of bytes"):
        main([str(tmp_path), "--to", "hf", f"--max-shard-size={size}"])


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no model"):
        export_model(tmp_path, "hf")
