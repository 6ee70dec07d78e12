import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from core.errors import CorruptArtifactError
from core.files import write_json
from core.manifest import describe_files, read_manifest, write_manifest
from training.batches import RowBatches

ROOT = Path(__file__).resolve().parents[2]


def train(kit, **settings: Any):
    resume = settings.pop("resume", None)
    trainer = kit.pretraining(**{"total_steps": 2, "save_steps": 2, "optimizer": "muon", **settings})
    source = RowBatches(kit.dataset["train"], batch_size=4, seed=1)
    return trainer.train(source, resume_from_checkpoint=resume)


def seal(checkpoint: Path) -> None:
    """Make the manifest fit what the directory holds now, so that only its meaning is wrong."""
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    (checkpoint / "MANIFEST.json").unlink()
    manifest["files"] = describe_files(checkpoint, (p for p in checkpoint.rglob("*") if p.is_file()))
    write_manifest(checkpoint, {k: v for k, v in manifest.items() if k != "format_version"})


def keys_of(state: dict[str, Any]) -> list[tuple[str, ...]]:
    progress = state["progress"]
    return [
        *((key,) for key in state),
        *((part, key) for part in ("progress", "length", "horizon") for key in state[part]),
        *(("progress", "stability", key) for key in progress["stability"]),
    ]


def test_no_part_of_the_state_is_filled_in_by_a_default(kit) -> None:
    train(kit)
    checkpoint = kit.root / "checkpoints" / "step_2"
    whole = json.loads((checkpoint / "trainer" / "state.json").read_text())
    for path in keys_of(whole):
        state = json.loads(json.dumps(whole))
        holder = state
        for key in path[:-1]:
            holder = holder[key]
        del holder[path[-1]]
        write_json(checkpoint / "trainer" / "state.json", state)
        seal(checkpoint)
        with pytest.raises(CorruptArtifactError, match=f"lacks '{path[-1]}'") as caught:
            train(kit, resume=checkpoint)
        assert caught.value.exit_code == 65
    write_json(checkpoint / "trainer" / "state.json", {**whole, "surplus": 1})
    seal(checkpoint)
    with pytest.raises(CorruptArtifactError, match="has an unknown 'surplus'"):
        train(kit, resume=checkpoint)


def test_no_tensor_of_the_optimizers_may_be_missing_or_of_another_shape(kit) -> None:
    train(kit)
    checkpoint = kit.root / "checkpoints" / "step_2"
    file = checkpoint / "trainer" / "optimizer.safetensors"
    whole = load_file(file)
    # One tensor of each kind of each of the two optimizers, then all of them.
    one_each = {key.partition("/")[0]: key for key in whole}
    assert set(one_each) == {"momentum", "step", "exp_avg", "exp_avg_sq"}
    for name in one_each.values():
        save_file({key: value for key, value in whole.items() if key != name}, file)
        seal(checkpoint)
        with pytest.raises(CorruptArtifactError, match=f"lacks '{name}'"):
            train(kit, resume=checkpoint)
    save_file({}, file)
    seal(checkpoint)
    with pytest.raises(CorruptArtifactError, match=r"optimizer\.safetensors: is empty"):
        train(kit, resume=checkpoint)
    name = one_each["momentum"]
    save_file({**whole, name: whole[name][:-1].clone()}, file)
    seal(checkpoint)
    with pytest.raises(CorruptArtifactError, match=f"has {name} of shape .* instead of"):
        train(kit, resume=checkpoint)


def test_a_clock_that_jumps_changes_nothing(kit, monkeypatch, same_weights) -> None:
    from models.hf_layout import load_model

    straight = load_model(train(kit, total_steps=6).final_directory)
    shutil.rmtree(kit.root / "checkpoints")
    jumps = iter([1e9, -1e6, 0.0] * 10_000)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    result = train(kit, total_steps=6)
    assert same_weights(load_model(result.final_directory), straight)
    assert 0 < result.elapsed_seconds < 600
    lines = (kit.root / "checkpoints" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["train/tokens_per_second"] > 0 for line in lines)


def test_durations_are_not_measured_with_the_clock_on_the_wall() -> None:
    rooms = (
        "core",
        "data_processing",
        "evaluation",
        "inference",
        "models",
        "pipeline",
        "tokenization",
        "training",
    )
    found = [
        path.relative_to(ROOT).as_posix()
        for room in rooms
        for path in sorted((ROOT / room).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "time.time()" in line
    ]
    # A date and the age of a file, for people; dates that OpenAI's interface wants.
    assert found == [
        "core/stage_run.py",
        "inference/server/application.py",
        "inference/server/responses.py",
        "training/run_log.py",
    ]
