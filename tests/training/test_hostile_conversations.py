"""Instruction records of which most cannot be learned from: each is counted, and no loss is divided by nothing."""

import json
import math
from pathlib import Path

import pytest

from core.device_manager import DeviceManager
from core.errors import DataError
from core.training_config import InstructionConfig
from data_processing.rows.conversations import read_conversations
from data_processing.rows.instruction_dataset import build_instruction_dataset
from training.batches import RowBatches, rows_in_order
from training.instruction_finetuning_trainer import InstructionFinetuningTrainer

CONTEXT = 32


def turns(*turns: tuple[str, object]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


LONG = "iron and slag " * 200

HOSTILE: dict[str, tuple[dict[str, object], str]] = {
    "a question longer than the context": (turns(("user", LONG), ("assistant", "Yes.")), "nothing_to_learn"),
    "an empty answer": (turns(("user", "Hot?"), ("assistant", " ")), "empty_response"),
    "no answer": (turns(("user", "Hot?")), "nothing_to_learn"),
    "two questions": (turns(("user", "a"), ("user", "b"), ("assistant", "c")), "bad_roles"),
    "an answer first": (turns(("assistant", "c"), ("user", "b")), "bad_roles"),
    "the system last": (turns(("user", "b"), ("assistant", "c"), ("system", "s")), "bad_roles"),
    "an unknown role": (turns(("user", "b"), ("wizard", "c")), "bad_roles"),
    "no text": (turns(("user", "b"), ("assistant", 3)), "not_text"),
    "no turn": (turns(), "nothing_to_learn"),
}


def write(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(map(json.dumps, records)) + "\n")
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_record_that_teaches_nothing_is_dropped_under_its_reason(kit, name: str) -> None:
    record, reason = HOSTILE[name]
    good = turns(("user", "Hot?"), ("assistant", "Yes."))
    file = write(kit.root / "records.jsonl", [good, record])
    with build_instruction_dataset(
        read_conversations(file), kit.tokenizer, max_length=CONTEXT, val_split=0.0
    ) as dataset:
        assert dataset.report["dropped"] == {reason: 1}
        assert (dataset.report["records"], dataset.report["conversations"]) == (2, 1)
        assert dataset.report["dropped_samples"][reason][0]["source"].endswith("records.jsonl:2")
    with pytest.raises(DataError, match=reason):
        alone = write(kit.root / "alone.jsonl", [record])
        build_instruction_dataset(read_conversations(alone), kit.tokenizer, max_length=CONTEXT)


@pytest.mark.parametrize("long_records", ["split", "truncate", "drop"])
def test_no_loss_of_a_tuning_on_such_records_is_divided_by_nothing(kit, long_records: str) -> None:
    records = [record for record, _ in HOSTILE.values()] * 3
    for number in range(12):
        records.append(turns(("user", f"How hot is {number}?"), ("assistant", f"As hot as {number}.")))
        records.append(turns(("user", f"Tell me of {number}."), ("assistant", LONG)))
    with build_instruction_dataset(
        read_conversations(write(kit.root / "records.jsonl", records)),
        kit.tokenizer,
        max_length=CONTEXT,
        val_split=0.2,
        long_records=long_records,  # type: ignore[arg-type]
    ) as dataset:
        report = dataset.report
        assert report["records"] == len(records) == report["conversations"] + sum(report["dropped"].values())
        assert report["truncated"] == (0 if long_records == "drop" else 12)
        assert report["dropped"].get("too_long", 0) == (12 + 3 if long_records == "drop" else 0)
        config = InstructionConfig.from_dict(
            {
                "total_steps": 6,
                "batch_size": 1,
                "eval_steps": 3,
                "logging_steps": 1,
                "mixed_precision": "fp32",
            }
        )
        config = config.replace(output_dir=str(kit.root / "tuned"), num_samples=0, compile="off")
        losses = []
        trainer = InstructionFinetuningTrainer(
            kit.model(), config, DeviceManager("cpu"), hooks=(lambda _trainer, report: losses.append(report),)
        )
        result = trainer.train(
            RowBatches(dataset["train"], batch_size=1, seed=2),
            rows_in_order(dataset["validation"], batch_size=1),
        )
    assert all(math.isfinite(step.loss_nats) and not step.skipped for step in losses)
    assert math.isfinite(result.final_validation["validation/loss"])
