import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core.errors import CorruptArtifactError, DataError
from models.hf_layout import load_model
from training.checkpoint import (
    delete_old_checkpoints,
    latest_checkpoint,
    list_checkpoints,
    load_optimizer_state,
    load_trainer_state,
    save_checkpoint,
    verify_checkpoint,
)


def save(kit, place: Path, seed: int = 1, **extra: Any) -> Path:
    return save_checkpoint(
        place,
        kit.model(seed),
        kit.tokenizer,
        facts={"stage": "pretraining", "step": seed},
        trainer_state={"progress": {"step": seed}},
        optimizer_state={"exp_avg/x": torch.arange(4.0)},
        **extra,
    )


def test_a_checkpoint_is_a_model_directory_with_everything_to_go_on(kit, same_weights) -> None:
    place = save(kit, kit.root / "step_1")
    names = {str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "chat_template.jinja",
        "README.md",
        "MANIFEST.json",
        "trainer/state.json",
        "trainer/optimizer.safetensors",
    }
    assert same_weights(load_model(place), kit.model())
    assert load_trainer_state(place) == {"progress": {"step": 1}}
    assert torch.equal(load_optimizer_state(place)["exp_avg/x"], torch.arange(4.0))


def test_the_generation_settings_end_at_a_document_or_a_turn(kit) -> None:
    place = save(kit, kit.root / "step_1")
    settings = json.loads((place / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [kit.tokenizer.eos_id, kit.tokenizer.end_id]


def test_no_file_of_a_checkpoint_is_a_pickle(kit) -> None:
    place = save(kit, kit.root / "step_1")
    for path in place.rglob("*"):
        if path.is_file():
            start = path.read_bytes()[:4]
            assert not start.startswith((b"\x80", b"PK")), path


@pytest.mark.parametrize("damage", ["cut", "bit", "gone", "manifest gone", "manifest cut"])
def test_the_one_before_a_damaged_checkpoint_is_taken(kit, damage: str, caplog) -> None:
    save(kit, kit.root / "step_1", seed=1)
    newest = save(kit, kit.root / "step_2", seed=2)
    weights = newest / "model.safetensors"
    match damage:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-10])
        case "bit":
            data = bytearray(weights.read_bytes())
            data[random.Random(0).randrange(len(data))] ^= 4
            weights.write_bytes(data)
        case "gone":
            weights.unlink()
        case "manifest gone":
            (newest / "MANIFEST.json").unlink()
        case "manifest cut":
            (newest / "MANIFEST.json").write_text('{"format_version": 1, "fil')
    with caplog.at_level(logging.WARNING):
        assert latest_checkpoint(kit.root) == kit.root / "step_1"
    if damage != "manifest gone":  # that one never was a checkpoint
        assert (kit.root / "step_2.corrupt-1").is_dir()
        assert "going on from step_1" in caplog.text


def test_one_flipped_bit_anywhere_is_found(kit) -> None:
    place = save(kit, kit.root / "step_1")
    generator = random.Random(1)
    for path in sorted(p for p in place.rglob("*") if p.is_file() and p.name != "MANIFEST.json"):
        whole = path.read_bytes()
        data = bytearray(whole)
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path.write_bytes(data)
        with pytest.raises(CorruptArtifactError, match=path.name):
            verify_checkpoint(place)
        path.write_bytes(whole)
    verify_checkpoint(place)


def test_when_none_is_intact_the_run_does_not_start_over(kit) -> None:
    for step in (1, 2):
        place = save(kit, kit.root / f"step_{step}", seed=step)
        (place / "config.json").write_text("{}")
    for _start in range(2):  # nor at the second start
        with pytest.raises(
            CorruptArtifactError, match=r"no checkpoint is intact \(.*step_2.*step_1.*restore one"
        ):
            latest_checkpoint(kit.root)


def test_a_directory_without_checkpoints_has_no_latest(kit) -> None:
    assert latest_checkpoint(kit.root / "nothing") is None


def test_weights_that_are_not_finite_are_never_committed(kit) -> None:
    model = kit.model()
    with torch.no_grad():
        model.embedding.weight[3, 4] = float("nan")
    with pytest.raises(DataError, match=r"not written, because embedding\.weight holds NaN or infinity"):
        save_checkpoint(kit.root / "step_1", model, kit.tokenizer, facts={})
    assert list(kit.root.iterdir()) == []


def test_optimizer_numbers_that_are_not_finite_are_never_committed(kit) -> None:
    with pytest.raises(DataError, match=r"not written, because exp_avg/x holds NaN or infinity"):
        save_checkpoint(
            kit.root / "step_1",
            kit.model(),
            kit.tokenizer,
            facts={},
            trainer_state={},
            optimizer_state={"exp_avg/x": torch.tensor([0.0, float("inf")])},
        )
    assert list(kit.root.iterdir()) == []


def test_steps_are_ordered_as_numbers_and_only_committed_ones_count(kit) -> None:
    for step in (9, 10, 100):
        save(kit, kit.root / f"step_{step}")
    (kit.root / "step_200").mkdir()
    assert [p.name for p in list_checkpoints(kit.root)] == ["step_9", "step_10", "step_100"]
    delete_old_checkpoints(kit.root, 2)
    assert [p.name for p in list_checkpoints(kit.root)] == ["step_10", "step_100"]
    delete_old_checkpoints(kit.root, None)
    assert len(list_checkpoints(kit.root)) == 2


def test_a_model_to_use_is_not_one_to_go_on_from(kit) -> None:
    save_checkpoint(kit.root / "final", kit.model(), kit.tokenizer, facts={})
    with pytest.raises(DataError, match=r"training cannot go on from it; resume from a step_N directory"):
        load_trainer_state(kit.root / "final")


def test_weights_are_stored_under_the_names_of_their_architecture(kit) -> None:
    names = load_file(save(kit, kit.root / "step_1") / "model.safetensors").keys()
    assert "model.layers.0.self_attn.q_norm.weight" in names
