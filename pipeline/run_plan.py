"""The plan of a run with `run.time_budget`: made once, kept beside the run's artifacts, laid over the user's settings.

Knows where data and machine are looked at; what is decided from that is `training.planner`'s.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.device_manager import DeviceManager
from core.errors import ConfigError, CorruptArtifactError
from core.files import write_json
from core.stage import Artifact
from core.training_config import PipelineConfig
from data_processing.sources import default_corpus
from data_processing.sources.raw_files import RawFile, find_files
from data_processing.sources.remote_files import is_url
from pipeline.sources import Sources, listed_files
from pipeline.tuning import DEFAULT_INSTRUCTION_FILE, no_instructions, uses_default_instructions
from training.memory_model import StepMemory, needed_bytes, step_memory
from training.planner import (
    SECONDS_AROUND_A_TRAINING,
    Candidate,
    DataFacts,
    candidate_shapes,
    candidates,
    check_budget,
    choices_for,
    vocabulary_for,
)
from training.speed_probe import Speed, measure_speed

logger = logging.getLogger(__name__)

PLAN_FILE = "training_plan.json"
"""In the run directory; not a training's own `plan.json`, which holds one stage's length."""

SHARE_FOR_PROBING = 0.03
"""Of the budget, at most, for measuring this machine."""

PROBED_WIDTHS = (128, 256, 512, 1024, 2048)

MICRO_BATCH_TOKENS = {"cpu": 16_384, "mps": 16_384, "cuda": 65_536}
"""Most tokens that go through a model at a time: on a CPU more save nothing, a GPU of 80 GB takes these up to 350M."""

FEWEST_MICRO_BATCH_TOKENS = 2048
"""Before micro-batches get smaller than this for want of memory, activations are computed again."""

USABLE_SHARE = 0.85
"""Of the device's memory; the rest is other programs'."""


def plan_for(
    config: PipelineConfig, sources: Sources | None, corpus: Artifact | None, *, keep: bool
) -> tuple[PipelineConfig, dict[str, Any]]:
    """`config` with what its plan decides, and the plan: read where there is one for these settings, else made.

    Args:
        corpus: What was collected; None = not yet, and its size is guessed from what there is to read.
        keep: Write a new plan down.

    Raises:
        ConfigError: no shape fits into the memory, or the budget is used up by what is given.
        CorruptArtifactError: the plan that is there cannot be read.
    """
    assert config.run.time_budget_seconds is not None
    path = config.run.directory / PLAN_FILE
    wishes = _wishes(config)
    record = _read(path)
    if record is None or record["wishes"] != wishes:
        if record is not None:
            logger.info("%s was made for other settings and is made anew", path)
        record = _make(config, sources, corpus, wishes)
        if keep:
            write_json(path, record)
    for line in record["because"]:
        logger.info("plan: %s", line)
    return config.replace(**record["choices"]), record


def _wishes(config: PipelineConfig) -> dict[str, Any]:
    """What the user asked for: another wish makes another plan. How often to save or where to is no part of it."""
    given: dict[str, Any] = {"time_budget_seconds": config.run.time_budget_seconds}
    for name in ("model", "training", "instruction"):
        section = getattr(config, name)
        given[name] = {
            key: value
            for key, value in section.to_dict().items()
            if key in section.model_fields_set - section.runtime_fields() and key != "data"
        }
    if "tokenizer_vocab_size" in config.data.model_fields_set:
        given["tokenizer_vocab_size"] = config.data.tokenizer_vocab_size
    return given


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CorruptArtifactError(
            f"{path}: is no plan ({error}); delete it, and a new one is made"
        ) from None
    if not isinstance(record, dict) or not {"wishes", "choices", "because"} <= record.keys():
        raise CorruptArtifactError(
            f"{path}: is no plan (no wishes, choices, because); delete it for a new one"
        )
    return record


def _make(
    config: PipelineConfig, sources: Sources | None, corpus: Artifact | None, wishes: Mapping[str, Any]
) -> dict[str, Any]:
    budget = config.run.time_budget_seconds
    assert budget is not None
    started = time.monotonic()
    facts = data_facts(config, sources, corpus)
    check_budget(config, budget, facts)
    device = DeviceManager(config.training.device)
    speed = _speed(config, facts, device, at_most_seconds=SHARE_FOR_PROBING * budget)
    probing = time.monotonic() - started
    num_trainings = 1 if facts.instruction_bytes is None else 2
    for_steps = budget - probing - num_trainings * SECONDS_AROUND_A_TRAINING
    considered = candidates(config, facts, speed, budget_seconds=for_steps)
    chosen, choices, memory = _first_that_fits(considered, config, device)
    return {
        "wishes": dict(wishes),
        "choices": choices,
        "because": _because(chosen, considered, facts, device, budget, probing, config),
        "expected": {
            "parameters": chosen.num_parameters,
            "tokens": round(chosen.num_tokens),
            "unique_tokens": round(chosen.unique_tokens),
            "pretraining_seconds": chosen.pretraining_seconds,
            "tuning_seconds": chosen.tuning_seconds,
            "loss_by_the_law": chosen.loss,
            "memory_bytes": memory.parts(),
        },
        "probing_seconds": probing,
        "considered": [str(one) for one in considered],
        "flops_per_second": {str(width): flops for width, flops in speed.flops_per_second.items()},
        "data": dataclasses.asdict(facts),
        "device": device.get_device_info(),
    }


def _because(
    chosen: Candidate,
    considered: list[Candidate],
    facts: DataFacts,
    device: DeviceManager,
    budget: float,
    probing: float,
    config: PipelineConfig,
) -> list[str]:
    text = "endless text" if facts.text_bytes is None else f"{facts.text_bytes / 1e6:,.1f} MB of text"
    times = f"{chosen.pretraining_seconds:,.0f} s of pretraining"
    if chosen.tuning_seconds:
        times += f" and {chosen.tuning_seconds:,.0f} s of instruction tuning"
    others = [one for one in considered if one is not chosen][:2]
    return [
        f"{text} ({facts.origin}), {budget:,.0f} s on {device.device}, {probing:.1f} s of them for measuring it",
        f"{times}; a vocabulary of {chosen.shape.vocab_size:,}",
        f"chosen: {chosen}",
        *(f"next best: {one}" for one in others),
    ]


def data_facts(config: PipelineConfig, sources: Sources | None, corpus: Artifact | None) -> DataFacts:
    """How much text and how many instructions there are.

    Before anything is collected, the bytes of the raw files stand for those of the corpus: near enough for plain text,
    too much for documents with pictures or markup, too little for what is compressed.
    """
    if corpus is not None:
        return DataFacts(float(corpus.metrics["bytes_kept"]), _instruction_bytes(config), "collected")
    size = _raw_bytes(config, sources)
    return DataFacts(
        size, _instruction_bytes(config), "a guess from the raw files, which are not collected yet"
    )


def _raw_bytes(config: PipelineConfig, sources: Sources | None) -> float | None:
    data = config.data
    if sources is not None:
        places = [Path(sources["directory"])] if "directory" in sources else []
        texts = sum(len(text.encode("utf-8", "surrogatepass")) for text in sources.get("texts", ()))
        return float(
            texts
            + sum(Path(file).stat().st_size for file in sources.get("files", ()))
            + sum(map(_directory_bytes, places))
        )
    if data.corpus == "python_standard_library":
        return float(sum(path.stat().st_size for path in default_corpus.module_files()))
    if data.corpus == "hub" and data.hub.target_tokens is not None:
        return 4.0 * data.hub.target_tokens  # about the bytes of a token of GPT-2
    if data.corpus != "directory" or is_url(data.raw_dir):
        return None
    if data.file_list is not None:
        return float(sum(path.stat().st_size for path in listed_files(data.file_list)))
    return float(_directory_bytes(data.raw_dir, include=data.include, exclude=data.exclude))


def _directory_bytes(directory: Path, **rules: Any) -> int:
    return sum(file.num_bytes for file in find_files(directory, **rules) if isinstance(file, RawFile))


def _instruction_bytes(config: PipelineConfig) -> int | None:
    if no_instructions(config) is not None:
        return None
    settings = config.instruction
    more = int(sum(weight * file.stat().st_size for file, weight in settings.more_data.items()))
    if uses_default_instructions(config):
        sizes = [sum(map(len, record.values())) for record in default_corpus.instruction_records()]
        return sum(sizes[: settings.max_records]) + more
    has_data = settings.data != DEFAULT_INSTRUCTION_FILE or settings.data.exists()
    return (settings.data.stat().st_size if has_data else 0) + more


def _speed(
    config: PipelineConfig, facts: DataFacts, device: DeviceManager, *, at_most_seconds: float
) -> Speed:
    shapes = list(candidate_shapes(config, vocabulary=vocabulary_for(config, facts)))
    probed = [shape for shape in shapes if shape.hidden_size in PROBED_WIDTHS] or shapes
    return measure_speed(probed, config.training, device, at_most_seconds=at_most_seconds)


def _first_that_fits(
    considered: list[Candidate], config: PipelineConfig, device: DeviceManager
) -> tuple[Candidate, dict[str, dict[str, Any]], StepMemory]:
    usable = USABLE_SHARE * device.total_memory_bytes()
    for candidate in considered:
        most_tokens = MICRO_BATCH_TOKENS[device.device.type]
        context = candidate.shape.max_position_embeddings
        is_given = "gradient_checkpointing" in config.training.model_fields_set
        modes = (config.training.gradient_checkpointing,) if is_given else ("none", "selective", "full")
        for mode in modes:
            tokens = most_tokens
            while tokens >= max(context, FEWEST_MICRO_BATCH_TOKENS if mode != "full" else 0):
                choices = choices_for(candidate, config, micro_batch_tokens=tokens)
                training = config.training.replace(**choices["training"], gradient_checkpointing=mode)
                memory = step_memory(
                    candidate.shape, training, compute_dtype=device.compute_dtype(training.mixed_precision)
                )
                if needed_bytes(memory, device.device.type) <= usable:
                    if mode != "none" and not is_given:
                        for section in ("training", "instruction"):
                            if section in choices:
                                choices[section]["gradient_checkpointing"] = mode
                    return candidate, choices, memory
                tokens //= 2
        logger.info("plan: does not fit into %.1f GB: %s", usable / 1e9, candidate)
    smallest = min(considered, key=lambda one: one.num_parameters)
    raise ConfigError(
        f"run.time_budget: no model fits into the {usable / 1e9:.1f} GB of {device.device} that may be used, not even "
        f"{smallest.shape.num_layers} layers of width {smallest.shape.hidden_size} with one row of "
        f"{smallest.shape.max_position_embeddings} tokens; set a smaller model.hidden_size, model.num_layers or "
        "model.max_position_embeddings"
    )
