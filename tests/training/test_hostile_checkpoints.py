"""Checkpoints from anywhere, with manifests that fit: going on from one works, or is refused in one clear line."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import CorruptArtifactError, MismatchError
from core.manifest import describe_files, read_manifest
from inference.model_directory import check_model_files
from tests.hostile_headers import changed, little_memory, read_header, refused, write_header
from training.batches import RowBatches
from training.checkpoint import OPTIMIZER_FILE, STATE_FILE, latest_checkpoint
from training.resuming import read_state

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the bound on memory needs Linux"
)


def train(kit, **settings: Any):
    resume = settings.pop("resume", None)
    trainer = kit.pretraining(
        **{
            "total_steps": 4,
            "save_steps": 2,
            "optimizer": "muon",
            "compile": "off",
            "num_samples": 0,
            **settings,
        }
    )
    return trainer.train(
        RowBatches(kit.dataset["train"], batch_size=4, seed=1), resume_from_checkpoint=resume
    )


@pytest.fixture
def checkpoint(kit) -> Path:
    """Of a run that has two steps before it."""
    train(kit)
    return kit.root / "checkpoints" / "step_2"


def seal(checkpoint: Path) -> None:
    """Make the manifest fit what the directory holds now."""
    path = checkpoint / "MANIFEST.json"
    manifest = json.loads(path.read_text())
    path.unlink()
    files = describe_files(checkpoint, (p for p in checkpoint.rglob("*") if p.is_file()))
    path.write_text(json.dumps({**manifest, "files": files}))


def go_on(kit, checkpoint: Path) -> BaseException | None:
    """What comes of two more steps from `checkpoint`, in another directory."""
    out = kit.root / "goes on"
    shutil.rmtree(out, ignore_errors=True)
    try:
        with little_memory():
            train(kit, resume=checkpoint, output_dir=str(out))
    except Exception as error:  # noqa: BLE001 - looked at by `refused`
        return error
    return None


def test_no_state_of_a_run_does_more_than_be_refused(kit, checkpoint: Path) -> None:
    generator = random.Random(6)
    path = checkpoint / STATE_FILE
    whole = json.loads(path.read_text())
    num_refused = 0
    for _ in range(40):
        hostile = changed(whole, generator)
        path.write_text(json.dumps(hostile))
        seal(checkpoint)
        num_refused += refused(go_on(kit, checkpoint), json.dumps(hostile)[:3000])
    assert num_refused > 20


def test_no_manifest_does_more_than_be_refused(kit, checkpoint: Path) -> None:
    generator = random.Random(7)
    path = checkpoint / "MANIFEST.json"
    whole = json.loads(path.read_text())
    shutil.rmtree(kit.root / "checkpoints" / "step_4")
    num_refused = 0
    for _ in range(300):
        hostile = changed(whole, generator)
        path.write_text(json.dumps(hostile))
        for read in (latest_checkpoint, check_model_files):
            try:
                with little_memory():
                    read(checkpoint.parent if read is latest_checkpoint else checkpoint)
            except Exception as error:  # noqa: BLE001 - looked at by `refused`
                num_refused += refused(error, json.dumps(hostile)[:3000])
    assert num_refused > 60


def test_no_header_of_the_optimizer_does_more_than_be_refused(kit, checkpoint: Path) -> None:
    generator = random.Random(8)
    path = checkpoint / OPTIMIZER_FILE
    header, data = read_header(path)
    num_refused = 0
    for _ in range(10):
        hostile = changed(header, generator)
        write_header(path, hostile, data)
        seal(checkpoint)
        num_refused += refused(go_on(kit, checkpoint), json.dumps(hostile)[:3000])
    assert num_refused > 6


def test_a_state_of_another_shape_is_compared_before_it_is_read(kit, checkpoint: Path) -> None:
    path = checkpoint / OPTIMIZER_FILE
    header, data = read_header(path)
    rows = 1 << 38
    header["exp_avg/surplus"] = {
        "dtype": "F32",
        "shape": [rows],
        "data_offsets": [len(data), len(data) + 4 * rows],
    }
    write_header(path, header, data)
    os.truncate(path, path.stat().st_size + 4 * rows)
    # Hashing a terabyte of holes takes minutes: what is looked at is what comes after.
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
    manifest["files"] = [file for file in manifest["files"] if file["path"] != OPTIMIZER_FILE]
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(
        MismatchError, match=r"has 'exp_avg/surplus', but the model has no parameter 'surplus'"
    ):
        train(kit, resume=checkpoint, output_dir=str(kit.root / "goes on"))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (lambda whole: whole.to(torch.complex64), "is of type C64, which is never written"),
        (lambda whole: torch.zeros(()), "as a number of some parameters and as a tensor of others"),
    ],
    ids=["type", "one number"],
)
def test_a_state_of_another_kind_is_refused(kit, checkpoint: Path, tensor: Any, message: str) -> None:
    tensors = load_file(checkpoint / OPTIMIZER_FILE)
    name = next(name for name in tensors if name.startswith("exp_avg/"))
    save_file({**tensors, name: tensor(tensors[name])}, checkpoint / OPTIMIZER_FILE)
    seal(checkpoint)
    error = go_on(kit, checkpoint)
    assert isinstance(error, CorruptArtifactError)
    assert message in str(error)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("progress.step", -1, "progress: step is -1: Input should be greater than or equal to 0"),
        ("progress.step", 10**30, "progress: step is 1000000000000000000000000000000: Input should be less"),
        ("progress.step", "2", "progress: step is '2': Input should be a valid integer"),
        ("progress.active_seconds", float("inf"), "progress: Out of range float values"),
        ("progress.stability", 3, "progress: stability is 3: Input should be an object"),
        ("progress.loss_scale", 0.0, "loss_scale is 0.0: Input should be greater than or equal to 1"),
        (
            "progress.loss_scale",
            2.0,
            "loss_scale is 2.0, but length.compute_dtype is float32, and only float16",
        ),
        (
            "length.compute_dtype",
            "load",
            "compute_dtype is 'load', expected one of float32, bfloat16, float16",
        ),
        ("length.total_steps", 0, "total_steps is 0: Input should be greater than or equal to 1"),
        ("horizon.warmup", 2.0, "horizon: warmup is 2.0: Input should be less than or equal to 1"),
        ("horizon.from_step", 3, "horizon.from_step is 3, after the 2 steps that were done"),
        ("data_fingerprint", 5, "data_fingerprint: it is 5: Input should be a valid string"),
    ],
)
def test_an_impossible_value_of_the_state_is_named(
    kit, checkpoint: Path, key: str, value: object, message: str
) -> None:
    path = checkpoint / STATE_FILE
    state = json.loads(path.read_text())
    holder = state
    *within, last = key.split(".")
    for part in within:
        holder = holder[part]
    holder[last] = value
    path.write_text(json.dumps(state))
    seal(checkpoint)
    trainer = kit.pretraining(optimizer="muon", total_steps=4)
    with pytest.raises(CorruptArtifactError) as caught:
        read_state(
            checkpoint,
            trainer.config,
            kit.model(),
            kit.tokenizer,
            None,
            trainer.loss_function,
            data=None,
            base_weights=None,
        )
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../step_4/config.json", "/etc/passwd", "a/../../b", "", "a\0b", "..\\x", "C:x"]
)
def test_a_manifest_names_no_file_outside_of_its_directory(kit, checkpoint: Path, name: str) -> None:
    path = checkpoint / "MANIFEST.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0]["path"] = name
    path.write_text(json.dumps(manifest))
    with pytest.raises(
        CorruptArtifactError, match=r"files\[0\]\.path is .* expected a name within the directory"
    ):
        read_manifest(checkpoint)
