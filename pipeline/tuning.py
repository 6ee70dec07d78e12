"""Tuning as stages do it: records → rows → a model that answers; and what of it enters a recipe. Knows no stages."""

import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from core.device_manager import DeviceManager
from core.training_config import InstructionConfig, PipelineConfig
from data_processing.document import Dropped
from data_processing.rows.arrow_rows import METADATA_NAME
from data_processing.rows.conversations import Conversation, read_conversations, to_conversation
from data_processing.rows.instruction_dataset import build_instruction_dataset
from data_processing.rows.split_corpus import LEARNED_FROM
from data_processing.rows.token_rows import TokenRows
from data_processing.sources import default_corpus
from pipeline.initial_model import lineage, load_initial_model, room_for, shape_of
from pipeline.sources import standard_library_facts
from pipeline.stage_parts import save_rows, sha256_or_missing, train_on_rows
from tokenization.tokenizer import Tokenizer
from training.instruction_finetuning_trainer import InstructionFinetuningTrainer

logger = logging.getLogger(__name__)

DEFAULT_INSTRUCTION_FILE: Path = InstructionConfig.model_fields["data"].default


def conversation_rows(
    config: PipelineConfig, tokenizer: Tokenizer, context: int, out: Path
) -> dict[str, Any]:
    """Write the records as rows of `context` tokens; returns the report of the dataset."""
    dataset = build_instruction_dataset(
        _conversations(config),
        tokenizer,
        max_length=context,
        val_split=config.instruction.val_split,
        seed=config.data.seed,
        long_records=config.instruction.long_records,
        work_dir=out.parent,
    )
    report = save_rows(dataset, out)
    left_out = ", ".join(f"{reason} {number}" for reason, number in report["dropped"].items()) or "none"
    logger.info(
        "conversations: kept %d of %d records; left out: %s; longer than the context: %d split, %d cut (samples in %s)",
        report["conversations"],
        report["records"],
        left_out,
        report["split"],
        report["truncated"],
        "instructions/dataset_report.json",
    )
    return report


def _conversations(config: PipelineConfig) -> Iterator[Conversation | Dropped]:
    """What the files of records hold, one after the other, each with its weight."""
    settings = config.instruction
    if uses_default_instructions(config):
        records = default_corpus.instruction_records()
        yield from islice((to_conversation(r, source=r["topic"]) for r in records), settings.max_records)
    elif settings.data.exists() or settings.data != DEFAULT_INSTRUCTION_FILE:
        yield from islice(read_conversations(settings.data), settings.max_records)
    for file, weight in settings.more_data.items():
        for item in read_conversations(file):
            yield item._replace(weight=weight) if isinstance(item, Conversation) else item


def tune(
    config: PipelineConfig,
    pretrained: Path,
    tokenizer: Tokenizer,
    conversations: Path,
    out: Path,
    *,
    dataset: Path | None = None,
) -> dict[str, Any]:
    """Tune the model in `pretrained`, or go on with it; returns what was measured.

    Args:
        dataset: The text that the run pretrained on, to be replayed where no setting names another.
    """
    settings = config.instruction.replace(output_dir=str(out))
    model = load_initial_model(pretrained, room_for(tokenizer, shape_of(pretrained)), seed=settings.seed)
    trainer = InstructionFinetuningTrainer(
        model,
        settings,
        DeviceManager(config.training.device),
        tokenizer=tokenizer,
        lineage=lineage(pretrained),
    )
    replayed = []
    if settings.replay_share is not None:
        replayed_dataset = settings.replay_dataset or dataset
        assert replayed_dataset is not None
        splits = [replayed_dataset / split for split in LEARNED_FROM]
        replayed = [TokenRows(split) for split in splits if split.is_dir()]
    return train_on_rows(
        trainer,
        settings,
        conversations,
        out,
        replayed=replayed,
        replay_share=settings.replay_share or 0.0,
    )


def replays_own_text(config: PipelineConfig) -> bool:
    """Whether tuning goes on to learn from the text that the run pretrained on."""
    return config.instruction.replay_share is not None and config.instruction.replay_dataset is None


def uses_default_instructions(config: PipelineConfig) -> bool:
    """Whether the instruction records are those that the default corpus makes of itself."""
    return (
        config.data.corpus == "python_standard_library"
        and config.instruction.data == DEFAULT_INSTRUCTION_FILE
        and not config.instruction.data.exists()
    )


def no_instructions(config: PipelineConfig) -> str | None:
    """Why there is nothing to tune on, or None."""
    file = config.instruction.data
    if (
        config.instruction.more_data
        or uses_default_instructions(config)
        or file.exists()
        or file != DEFAULT_INSTRUCTION_FILE
    ):
        return None  # a file that was named and is missing is an error, raised where it is read
    return f"no instruction data: {file} does not exist; put records there or name a file with --instruction-data"


def instruction_source(config: PipelineConfig) -> Mapping[str, Any]:
    """The files of records, by their content."""
    settings = config.instruction
    facts: dict[str, Any]
    if uses_default_instructions(config):
        facts = dict(standard_library_facts())
    else:
        facts = {"instruction file": sha256_or_missing(settings.data)}
    if settings.more_data:
        facts["more instruction files"] = [
            [sha256_or_missing(path), weight] for path, weight in settings.more_data.items()
        ]
    return facts


def replayed_source(config: PipelineConfig) -> dict[str, Any]:
    """The rows of another dataset that are learned again, as part of what a model was tuned on."""
    dataset = config.instruction.replay_dataset
    return {} if dataset is None else {"replayed rows": sha256_or_missing(dataset / "train" / METADATA_NAME)}
