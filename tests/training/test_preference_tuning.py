"""Preference tuning against a plain computation, another library's numbers, and itself when it was interrupted."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from core.device_manager import DeviceManager
from core.distributed import ALONE
from core.training_config import PreferenceConfig
from data_processing.rows.preference_dataset import build_preference_dataset
from data_processing.rows.preferences import Preference
from data_processing.rows.token_dataset import TokenDataset
from models.hf_layout import load_model
from tests.training.test_adapter_tuning import StoppedError, files_of_model, stop_at
from tokenization.chat_template import render_chat
from training.batches import RowBatches, rows_in_order, to_tensors
from training.dry_run import split_batch
from training.losses import Batch, count_targets, label_log_probabilities
from training.preference_loss import (
    PREFERENCE_LOSSES,
    Judged,
    PreferenceLoss,
    judge_pairs,
    judge_rows,
    preference_measures,
    whole_pairs,
)
from training.preference_trainer import PreferenceTrainer
from training.trainer import Trainer, share_of

GOLDEN = Path(__file__).with_name("golden_preference_losses.json")

PAIRS = [
    Preference(
        [{"role": "user", "content": f"n {n % 5}"}], f"yes {n}" + "!" * (n % 3), f"no {n % 7}", f"x:{n}"
    )
    for n in range(48)
]


@pytest.fixture
def pairs(kit) -> TokenDataset:
    """Rows whose judge is the kit's model of seed 1."""
    model = kit.model().eval()
    return build_preference_dataset(
        PAIRS,
        kit.tokenizer,
        lambda rows: judge_rows(model, rows, DeviceManager("cpu")),
        max_length=32,
        val_split=0.2,
    )


def plainly(model: Any, tokenizer: Any, preference: Preference, answer: str) -> tuple[float, int]:
    """ln p(answer) token by token, of one conversation alone; and its number of tokens."""
    prompt = render_chat(preference.messages, tokenizer, add_generation_prompt=True).ids
    message = {"role": "assistant", "content": answer}
    ids = torch.tensor([render_chat([*preference.messages, message], tokenizer).ids])
    scores = F.log_softmax(model(ids)[0].double(), dim=-1)
    found = [scores[t - 1, ids[0, t]] for t in range(len(prompt), ids.shape[1])]
    return float(sum(found)), len(found)


def plain_margins(
    policy: Any, reference: Any, tokenizer: Any, wanted: list[Preference], *, per_token: bool
) -> list[float]:
    found = []
    for preference in wanted:
        gains = []
        for answer in (preference.chosen, preference.rejected):
            (one, number), (other, _) = (
                plainly(m, tokenizer, preference, answer) for m in (policy, reference)
            )
            gains.append((one - other) / (number if per_token else 1))
        found.append(gains[0] - gains[1])
    return found


@pytest.mark.parametrize("name", list(PREFERENCE_LOSSES))
def test_the_loss_and_accuracy_are_those_of_each_answer_alone(kit, pairs, name: str) -> None:
    rows = pairs["validation"]
    policy, reference = kit.model(seed=7).eval(), kit.model().eval()
    batch = to_tensors(rows.batch(range(len(rows))))
    wanted = [p for p in PAIRS if p.chosen in answers(kit, batch)]
    assert len(wanted) == count_targets(batch) >= 5
    with torch.no_grad():
        total = float(PreferenceLoss(name, 0.3)(policy, batch, document_masking=True))
        measured = preference_measures(policy, batch, document_masking=True)
        margins = plain_margins(
            policy, reference, kit.tokenizer, wanted, per_token=name.endswith("per_token")
        )
        whole = plain_margins(policy, reference, kit.tokenizer, wanted, per_token=False)
    if name.startswith("dpo"):
        expected = sum(math.log(1 + math.exp(-0.3 * margin)) for margin in margins)
    else:
        expected = sum((margin - 1 / 0.6) ** 2 for margin in margins)
    assert total == pytest.approx(expected, rel=2e-4)
    assert measured.tolist() == pytest.approx([sum(m > 0 for m in whole), sum(whole)], rel=2e-3, abs=1e-3)


def answers(kit, batch: dict[str, torch.Tensor]) -> list[str]:
    """What is chosen in a batch, in order."""
    found = []
    T = batch["input_ids"].shape[1] // 2
    for row in batch["answer_labels"][:, :T].tolist():
        run: list[int] = []
        for label in [*row, -100]:
            if label != -100:
                run.append(label)
            elif run:
                found.append(kit.tokenizer.decode(run))
                run = []
    return found


def test_the_model_that_is_compared_with_gains_nothing_over_itself(kit, pairs) -> None:
    batch = to_tensors(pairs["train"].batch(range(4)))
    with torch.no_grad():
        judged = judge_pairs(kit.model().eval(), batch)
        loss = PreferenceLoss("dpo", 0.1)(kit.model().eval(), batch, document_masking=True)
    assert max(float(gain.abs().max()) for gain in judged.gains) < 1e-4
    assert float(loss) == pytest.approx(count_targets(batch) * math.log(2), rel=1e-5)


def test_any_split_of_a_batch_adds_up_and_rows_without_labels_count_for_nothing(kit, pairs) -> None:
    batch = to_tensors(pairs["train"].batch(range(4)))
    policy, loss = kit.model(seed=7).eval(), PreferenceLoss("ipo", 0.1)
    with torch.no_grad():
        whole = float(loss(policy, batch, document_masking=True))
        parts = [float(loss(policy, part, document_masking=True)) for part in split_batch(batch, 4)]
        silent = {**batch, "labels": torch.full_like(batch["labels"], -100)}
        nothing = float(loss(policy, silent, document_masking=True))
    assert sum(parts) == pytest.approx(whole, rel=1e-5)
    assert nothing == 0.0


def test_the_gradient_of_label_probabilities_is_autograds_own() -> None:
    torch.manual_seed(1)
    features, weight = torch.randn(20, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    labels = torch.randint(50, (20,))
    labels[::3] = -100
    factors = torch.randn(20)
    (label_log_probabilities(features, weight, labels) * factors).sum().backward()
    found = features.grad, weight.grad
    features.grad = weight.grad = None
    scores = F.log_softmax(features @ weight.T, dim=-1)
    chosen = scores[torch.arange(20), labels.clamp(min=0)] * (labels != -100)
    (chosen * factors).sum().backward()
    torch.testing.assert_close(found, (features.grad, weight.grad))


def test_the_losses_are_those_of_trl_on_the_same_numbers() -> None:
    """The file holds log-probabilities that a policy and a reference gave to pairs, and what TRL's DPOTrainer made of
    them; benchmarks/trl_comparison.py wrote it."""
    golden = json.loads(GOLDEN.read_text())
    values = {
        key: torch.tensor(golden[key], dtype=torch.float64)
        for key in (
            "chosen",
            "rejected",
            "chosen_reference",
            "rejected_reference",
            "chosen_tokens",
            "rejected_tokens",
        )
    }
    gains = values["chosen"] - values["chosen_reference"], values["rejected"] - values["rejected_reference"]
    judged = Judged(gains, (values["chosen_tokens"], values["rejected_tokens"]), torch.ones(len(gains[0])))
    assert set(golden["losses"]) == {"dpo", "dpo_per_token", "ipo_per_token"}
    for name, by_beta in golden["losses"].items():
        assert len(by_beta) >= 2
        for beta, expected in by_beta.items():
            assert float(PreferenceLoss(name, float(beta)).losses(judged).mean()) == pytest.approx(
                expected, rel=1e-5
            )


def preferred(
    kit, pairs: TokenDataset, name: str, *, hooks: Any = (), resume: Path | None = None, **settings: Any
):
    config = PreferenceConfig.from_dict(
        {
            "total_steps": 12,
            "eval_steps": 4,
            "save_steps": 4,
            "batch_size": 2,
            "mixed_precision": "fp32",
            "learning_rate": 5e-3,
            "compile": "off",
            "save_total_limit": None,
            "output_dir": str(kit.root / name),
            **settings,
        }
    )
    trainer = PreferenceTrainer(
        kit.model(), config, DeviceManager("cpu"), tokenizer=kit.tokenizer, hooks=hooks
    )
    source = RowBatches(pairs["train"], batch_size=2, seed=config.seed)
    held_out = rows_in_order(pairs["validation"], batch_size=2)
    return trainer.train(source, held_out, resume_from_checkpoint=resume)


def test_tuning_on_pairs_raises_the_held_out_accuracy(kit, pairs) -> None:
    result = preferred(kit, pairs, "run")
    before, after = result.initial_validation, result.final_validation
    assert before["validation/loss"] == pytest.approx(math.log(2), rel=1e-4)
    assert before["validation/preference_margin"] == pytest.approx(0.0, abs=1e-3)
    assert after["validation/preference_accuracy"] > 0.9
    assert after["validation/preference_margin"] > 1.0
    assert after["validation/loss"] < 0.6
    assert not {"validation/bits_per_byte", "validation/perplexity"} & after.keys()


@pytest.mark.parametrize(
    "adapters", [{}, {"lora": {"rank": 4, "dropout": 0.1}}], ids=["all weights", "adapters"]
)
def test_an_interrupted_preference_tuning_ends_with_the_bits_of_one_that_was_not(
    kit, pairs, adapters
) -> None:
    straight = preferred(kit, pairs, "straight", **adapters)
    with pytest.raises(StoppedError):
        preferred(kit, pairs, "stopped", hooks=(stop_at(7),), **adapters)
    resumed = preferred(kit, pairs, "stopped", resume=kit.root / "stopped" / "step_4", **adapters)
    assert files_of_model(resumed.final_directory) == files_of_model(straight.final_directory)
    assert load_model(resumed.final_directory).adapters is None
    assert files_of_model(straight.final_directory) != files_of_model(kit.root / "straight" / "step_4")


def test_two_processes_share_pairs_evenly(pairs) -> None:
    """What a process without a batch of its own computes on counts for nothing."""
    batches = list(rows_in_order(pairs["validation"], batch_size=1))
    worlds = [dataclasses.replace(ALONE, rank=rank, size=2) for rank in (0, 1)]
    shared = [list(share_of(world, batches)) for world in worlds]
    assert len(shared[0]) == len(shared[1])
    assert sum(count_targets(batch) for part in shared for batch in part) == sum(map(count_targets, batches))
    assert all("references" in batch for part in shared for batch in part)
    assert np.isfinite(shared[1][-1]["references"].numpy()).all()


def test_pairs_that_do_not_fit_into_memory_are_learned_in_parts_and_give_the_same_losses(
    kit, pairs, monkeypatch, caplog
) -> None:
    kit.shape = kit.shape.replace(dropout=0.0)  # what is dropped is drawn a micro-batch
    whole = preferred(kit, pairs, "whole")
    summed_loss = Trainer.summed_loss

    def cramped_loss(self: Trainer, batch: Batch) -> torch.Tensor:
        if len(batch["input_ids"]) > 1:
            raise MemoryError
        return summed_loss(self, batch)

    monkeypatch.setattr(Trainer, "summed_loss", cramped_loss)
    halved = preferred(kit, pairs, "halved")
    assert "a micro-batch of 2 rows of 64 tokens does not fit into memory (MemoryError)" in caplog.text
    assert halved.final_validation == pytest.approx(whole.final_validation, rel=1e-4)


def test_the_largest_batch_of_pairs_looks_like_any_and_has_every_token_judged(kit, pairs) -> None:
    (real,) = RowBatches(pairs["train"], batch_size=2, seed=1).micro_batches([0])
    largest = whole_pairs(2, 32)
    assert {key: (t.shape, t.dtype) for key, t in largest.items()} == {
        key: (t.shape, t.dtype) for key, t in real.items()
    }
    judged = judge_pairs(kit.model().eval(), largest)
    assert [int(number.sum()) for number in judged.num_tokens] == [2 * 32, 2 * 32]
    assert count_targets(largest) == int(judged.is_pair.sum()) == 2
