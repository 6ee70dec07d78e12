import json
import logging
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from core.errors import Preempted
from models.hf_layout import load_model
from training.batches import rows_in_order
from training.samples import NEW_TOKENS, PROMPT_TOKENS, continue_greedily, first_prompts
from training.session import row_loaders


def train(kit, resume: Path | None = None, hooks=(), **settings):
    trainer = kit.pretraining(**settings)
    trainer.hooks = hooks
    loaders = row_loaders(kit.dataset["train"], kit.dataset["validation"], trainer.config)
    return trainer.train(*loaders, resume_from_checkpoint=resume)


def samples(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "samples.jsonl").read_text().splitlines()]


def test_samples_change_no_bit_of_the_training(kit, same_weights) -> None:
    shuffled = DataLoader(kit.dataset["validation"], batch_size=4, shuffle=True)

    def finish(name: str, num_samples: int):
        trainer = kit.pretraining(output_dir=str(kit.root / name), num_samples=num_samples, eval_steps=2)
        torch.manual_seed(5)
        loader = DataLoader(kit.dataset["train"], batch_size=4, shuffle=True)
        result = trainer.train(loader, shuffled)
        return load_model(result.final_directory), torch.rand(1)

    (without, drawn_without), (with_samples, drawn_with) = finish("without", 0), finish("with", 2)
    assert same_weights(with_samples, without)
    assert torch.equal(drawn_with, drawn_without)
    assert len(samples(kit.root / "with")) == 2 * 6
    assert not (kit.root / "without" / "samples.jsonl").exists()


def test_each_evaluation_samples_the_same_prompts_and_logs_one(kit, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="training.samples"):
        train(kit)
    lines = samples(kit.root / "checkpoints")
    assert [line["step"] for line in lines] == [6, 6, 12, 12]
    assert lines[0]["prompt"] == lines[2]["prompt"] != lines[1]["prompt"] == lines[3]["prompt"]
    assert len([r for r in caplog.records if r.name == "training.samples"]) == 2


def test_an_interrupted_run_has_the_samples_of_the_uninterrupted_one(kit) -> None:
    import signal

    def interrupt(_trainer, report) -> None:
        if report.step == 9:
            signal.raise_signal(signal.SIGTERM)

    train(kit, output_dir=str(kit.root / "straight"))
    out = kit.root / "broken"
    with pytest.raises(Preempted):
        train(kit, hooks=(interrupt,), output_dir=str(out))
    train(kit, resume=out / "step_4", output_dir=str(out))
    assert samples(out) == samples(kit.root / "straight")


def test_the_cache_gives_what_a_pass_over_the_whole_text_gives(kit) -> None:
    trainer = kit.trainer()
    prompt = first_prompts(rows_in_order(kit.dataset["validation"], batch_size=1), 1, seed=1)[0]
    ids = list(prompt)
    trainer.model.eval()
    with torch.no_grad():
        for _ in range(min(NEW_TOKENS, 32 - len(prompt))):
            logits = trainer.model(torch.tensor([ids]))[0, -1]
            ids.append(int(logits[: kit.tokenizer.vocab_size].argmax()))
    trainer.model.train()
    found = continue_greedily(trainer, prompt, kit.tokenizer)
    ends = [
        i
        for i, token in enumerate(ids)
        if token in (kit.tokenizer.eos_id, kit.tokenizer.end_id) and i >= len(prompt)
    ]
    assert found == ids[len(prompt) : ends[0] if ends else None]
    assert trainer.model.training


def test_the_prompt_of_a_conversation_is_its_question_and_no_token_of_the_answer() -> None:
    ids = torch.tensor([[1, 10, 11, 12, 20, 21, 2, 0]])
    labels = torch.tensor([[-100, -100, -100, 20, 21, 2, -100, -100]])
    batch = {"input_ids": ids, "labels": labels, "position_ids": torch.zeros_like(ids)}
    assert first_prompts([batch], 3, seed=1) == [[1, 10, 11, 12]]


def test_the_prompt_of_a_text_is_its_beginning() -> None:
    ids = torch.arange(2 * 64).view(2, 64)
    batch = {"input_ids": ids, "labels": ids + 1, "position_ids": ids}
    assert first_prompts([batch], 1, seed=1) == [list(range(PROMPT_TOKENS))]


def test_a_row_without_a_label_leaves_room_for_a_token() -> None:
    ids = torch.ones(1, 8, dtype=torch.long)
    batch = {"input_ids": ids, "labels": torch.full_like(ids, -100), "position_ids": ids}
    assert [len(prompt) for prompt in first_prompts([batch], 1, seed=1)] == [7]
