"""The line: each stage as one function and one entry of the tuple at the end. This file is the map of the project.

A stage reads the directories of earlier stages and writes its own; what it computes is in the rooms it calls.
Longer than other files because the whole line is to be seen in one place.
"""

import logging
import shlex
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from core.config_files import SETTINGS_FILE
from core.device_manager import DeviceManager
from core.files import write_json
from core.stage import Artifact, Inputs, Stage
from core.training_config import PipelineConfig
from data_processing.data_collector import CACHE_NAME, DIGESTS_NAME, DataCollector
from data_processing.dataset_builder import DatasetBuilder
from data_processing.reports.corpus_files import CORPUS_NAME, REPORT_NAME
from data_processing.reports.data_report import TOKENIZER_REPORT, write_data_report
from data_processing.reports.forgetting import read_forgotten
from data_processing.rows.learned_texts import LEARNED_NAME
from data_processing.rows.split_corpus import REPLAY
from data_processing.rows.token_rows import TokenRows
from data_processing.sources.remote_files import is_url
from data_processing.text_cleaner import TextCleaner
from evaluation.line_evaluation import evaluate_line
from evaluation.run_report import write_run_report
from evaluation.suite import SCORES
from inference.model_directory import UPDATES, find_model, is_update
from models.transformer_lm import create_model_from_config
from pipeline.initial_model import initial_source, lineage, load_initial_model, weights_digest
from pipeline.preferring import ROW_SETTINGS, no_preferences, prefer, preference_rows, preference_source
from pipeline.sources import Sources, collect_sources, source_facts
from pipeline.stage_parts import place_in_run, save_rows, section, sha256_or_missing, train_on_rows
from pipeline.tuning import (
    conversation_rows,
    instruction_source,
    no_instructions,
    replayed_source,
    replays_own_text,
    tune,
)
from tokenization.tokenizer import Tokenizer
from tokenization.tokenizer_report import report_tokenizer
from tokenization.tokenizer_trainer import TokenizerTrainer
from training.planner import making_up_for
from training.pretraining_trainer import PretrainingTrainer

logger = logging.getLogger(__name__)


def collect(sources: Sources | None, config: PipelineConfig, _inputs: Inputs, out: Path) -> dict[str, Any]:
    """Raw files → cleaned, filtered, deduplicated documents, one JSON line each."""
    cleaner = TextCleaner(
        min_length=config.data.min_text_length,
        max_urls=config.data.max_urls_per_document,
        max_length=config.data.max_text_length,
    )
    cache = cache_beside(out, config)
    collector = DataCollector(
        out,
        cleaner,
        config=config.data,
        ignore=own_places(config),
        cache_dir=cache,
        owns_cache=config.data.cache_dir is None,
        forgotten=read_forgotten(config.run.directory),
    )
    collect_sources(collector, sources, config.data, downloads=out.parent / CACHE_NAME / "downloads")
    return collector.ledger.to_dict()


def train_tokenizer(config: PipelineConfig, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Documents → a vocabulary, or the existing one that the configuration names."""
    settings = config.tokenizer
    if settings.path is not None:
        Tokenizer.from_file(settings.path, tiktoken_pattern=settings.tiktoken_pattern).save(out)
    else:
        TokenizerTrainer(
            config.data.tokenizer_vocab_size,
            settings.model_type,
            character_coverage=settings.character_coverage,
            split_digits=settings.split_digits,
            split_by_unicode_script=settings.split_by_unicode_script,
            max_piece_length=settings.max_piece_length,
            training_bytes=settings.training_bytes,
            balance_sources=settings.balance_sources,
            shrink_to_fit=settings.shrink_to_fit,
        ).train_from_jsonl(inputs["collect"].directory / CORPUS_NAME, "tokenizer", out)
    tokenizer = Tokenizer.from_file(out)
    return {"vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint}


def build_dataset(config: PipelineConfig, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Documents and vocabulary → rows of token ids in train, validation and test."""
    data = config.data
    builder = DatasetBuilder(
        inputs["tokenizer"].directory,
        config.model.max_position_embeddings,
        stride=data.stride,
        seed=data.seed,
        num_workers=data.num_workers,
        work_dir=out.parent,
        augmentation=data.augmentation,
        learned=data.learned,
    )
    dataset = builder.build_from_jsonl(
        inputs["collect"].directory / CORPUS_NAME, data.train_split, data.val_split, data.test_split
    )
    report = save_rows(dataset, out)
    if data.learned is not None:  # who divides the corpus again needs it
        shutil.copyfile(data.learned, out / LEARNED_NAME)
    return report


def report_data(config: PipelineConfig, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Corpus, vocabulary and rows → a page that says what the data are, its machine-readable twin, a data card."""
    corpus, tokenizer = inputs["collect"].directory, inputs["tokenizer"].directory
    write_json(
        out / TOKENIZER_REPORT,
        report_tokenizer(
            Tokenizer.from_file(tokenizer), corpus / CORPUS_NAME, references=config.tokenizer.references
        ),
    )
    write_data_report(corpus=corpus, tokenizer=out, dataset=inputs["dataset"].directory, out=out)
    return {}


def pretrain(config: PipelineConfig, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Rows → a model that continues text."""
    dataset, tokenizer = inputs["dataset"].directory, Tokenizer.from_file(inputs["tokenizer"].directory)
    shape = config.model.replace(vocab_size=config.model.vocab_size or tokenizer.vocab_size)
    settings = config.training.replace(output_dir=str(out))
    facts: Mapping[str, str] = {}
    if settings.init_from is None:
        model = create_model_from_config(shape, seed=settings.seed)
    else:
        initial = find_model(settings.init_from)
        model, facts = load_initial_model(initial, shape, seed=settings.seed), lineage(initial)
    trainer = PretrainingTrainer(
        model,
        settings,
        shape,
        DeviceManager(config.training.device),
        tokenizer=tokenizer,
        lineage=facts,
    )
    replayed = [] if config.training.replay_share is None else [TokenRows(dataset / REPLAY)]
    return train_on_rows(
        trainer,
        settings,
        dataset,
        out,
        replayed=replayed,
        replay_share=config.training.replay_share or 0.0,
    )


def prepare_instructions(config: PipelineConfig, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Instruction records → conversations as rows with labels on the answers alone."""
    tokenizer = Tokenizer.from_file(inputs["tokenizer"].directory)
    return conversation_rows(config, tokenizer, config.model.max_position_embeddings, out)


def finetune(config: PipelineConfig, inputs: Inputs, out: Path) -> dict[str, Any]:
    """A model that continues text and conversations → a model that answers."""
    pretrained = inputs["pretrain"].directory / "final"
    tokenizer = Tokenizer.from_file(inputs["tokenizer"].directory)
    config = making_up_for(config, inputs["pretrain"].metrics["elapsed_seconds"])
    dataset = inputs["dataset"].directory if "dataset" in inputs else None
    return tune(config, pretrained, tokenizer, inputs["instructions"].directory, out, dataset=dataset)


def evaluate(config: PipelineConfig, inputs: Inputs, out: Path) -> dict[str, Any]:
    """Models and held-out rows → numbers, answers, samples, and the page about the whole run."""
    metrics = evaluate_line(
        config.evaluation,
        DeviceManager(config.training.device),
        corpus=place_in_run("corpus", config.data.output_dir, config),
        dataset=inputs["dataset"].directory,
        pretrained=inputs["pretrain"].directory / "final",
        tuned=next(
            (
                (name, inputs[name].directory / "final")
                for name in ("preference", "finetune")
                if name in inputs
            ),
            None,
        ),
        before_preferences=inputs["finetune"].directory / "final" if "preference" in inputs else None,
        instructions=inputs["instructions"].directory if "instructions" in inputs else None,
        document_masking=config.training.document_masking,
        scores=out.parent / SCORES,  # in the run, and in a dry run where everything else is
        out=out,
    )
    places = {stage.name: stage.place(config) for stage in line()} | {"evaluate": out}
    write_run_report(places, config.run.directory, settings=config.to_dict(), out=out)
    return metrics


def _given_tokenizer(config: PipelineConfig) -> Mapping[str, Any]:
    settings = config.tokenizer
    if settings.path is None:
        return {}
    tokenizer = Tokenizer.from_file(settings.path, tiktoken_pattern=settings.tiktoken_pattern)
    return {"given tokenizer": tokenizer.fingerprint}


def _learned_before(config: PipelineConfig) -> Mapping[str, Any]:
    learned = config.data.learned
    return {} if learned is None else {"learned documents": sha256_or_missing(learned)}


def _rows_if(allowed: bool, stage: str) -> frozenset[str]:
    return frozenset({stage}) if allowed else frozenset()


def _repair_rows(config: PipelineConfig) -> str:
    return shlex.join(["python", "scripts/inspect_data.py", str(config.run.directory), "verify", "--repair"])


def cache_beside(corpus: Path, config: PipelineConfig) -> str:
    """Where finished shards of a corpus are kept."""
    return config.data.cache_dir or str(corpus.parent / CACHE_NAME)


def digests_database(config: PipelineConfig) -> Path | None:
    """Where the digests of raw files are remembered; None where the cache is not on this machine."""
    cache = cache_beside(place_in_run("corpus", config.data.output_dir, config), config)
    return None if is_url(cache) else Path(cache, DIGESTS_NAME)


def own_places(config: PipelineConfig) -> list[Path]:
    """Where the run writes: its directory, and explicit places outside of it. Of an update, also where the run that is
    updated wrote, and its other updates."""
    explicit = (
        config.data.output_dir,
        config.tokenizer.output_dir,
        config.data.dataset_dir,
        config.training.output_dir,
        config.instruction.output_dir,
        config.preference.output_dir,
    )
    places = [config.run.directory, *(place for place in explicit if place is not None)]
    if config.run.parent is not None and is_update(config.run.directory):
        run = config.run.directory.parents[1]
        places.append(run)
        for settings in [run / SETTINGS_FILE, *run.glob(f"{UPDATES}/*/{SETTINGS_FILE}")]:
            others = PipelineConfig.from_file(settings)
            places += own_places(others.replace(run={"parent": None}))
    return places


COLLECT_SETTINGS = (
    *("corpus", "recursive", "include", "exclude", "respect_gitignore", "text_field"),
    *("min_text_length", "max_text_length", "max_urls_per_document", "remove_duplicates"),
    *(
        "reading",
        "boilerplate",
        "languages",
        "quality",
        "privacy",
        "blocklist",
        "decontamination",
        "duplicates",
    ),
)
"""The settings of the data that decide what is collected. `sql` and `hub` enter by what they lead to."""


def line(sources: Sources | None = None) -> tuple[Stage[PipelineConfig], ...]:
    """The stages in their order.

    Args:
        sources: Text handed in from Python instead of what the configuration names.
    """
    return (
        Stage(
            name="collect",
            run=partial(collect, sources),
            settings=lambda c: section("data", c.data, *COLLECT_SETTINGS),
            sources=lambda c: source_facts(
                sources,
                c.data,
                ignore=own_places(c),
                digests_at=digests_database(c),
                forgotten=read_forgotten(c.run.directory),
            ),
            place=lambda c: place_in_run("corpus", c.data.output_dir, c),
            content=CORPUS_NAME,
            version=4,
        ),
        Stage(
            name="tokenizer",
            run=train_tokenizer,
            settings=lambda c: (
                section("data", c.data, "tokenizer_vocab_size")
                | section("tokenizer", c.tokenizer, without="path")
            ),
            needs=("collect",),
            sources=_given_tokenizer,
            place=lambda c: place_in_run("tokenizer", c.tokenizer.output_dir, c),
        ),
        Stage(
            name="dataset",
            run=build_dataset,
            settings=lambda c: (
                section(
                    "data", c.data, "train_split", "val_split", "test_split", "stride", "seed", "augmentation"
                )
                | section("model", c.model, "max_position_embeddings")
            ),
            needs=("collect", "tokenizer"),
            sources=_learned_before,
            place=lambda c: place_in_run("dataset", c.data.dataset_dir, c),
            version=2,
            repair=_repair_rows,
        ),
        Stage(
            name="data_report",
            run=report_data,
            settings=lambda c: {},
            needs=("collect", "tokenizer", "dataset"),
            # What was left out does not change the corpus, but it does change the report.
            sources=lambda c: {
                "collection": sha256_or_missing(place_in_run("corpus", c.data.output_dir, c) / REPORT_NAME),
                "reference tokenizers": [sha256_or_missing(path) for path in c.tokenizer.references],
            },
            place=lambda c: c.run.directory / "data_report",
        ),
        Stage(
            name="pretrain",
            run=pretrain,
            settings=lambda c: section("model", c.model) | section("training", c.training),
            needs=("dataset", "tokenizer"),
            sources=initial_source,
            place=lambda c: place_in_run("pretrain", c.training.output_dir, c),
            outputs="final/**/*",
            resumable=True,
            goes_on_with_other=lambda c: _rows_if(c.training.allow_data_change, "dataset"),
        ),
        Stage(
            name="instructions",
            run=prepare_instructions,
            settings=lambda c: (
                section("instruction", c.instruction, "max_records", "val_split", "long_records")
                | section("data", c.data, "seed")
                | section("model", c.model, "max_position_embeddings")
            ),
            needs=("tokenizer",),
            sources=instruction_source,
            disabled_because=no_instructions,
            place=lambda c: c.run.directory / "instructions",
            repair=_repair_rows,
        ),
        Stage(
            name="finetune",
            run=finetune,
            settings=lambda c: section("instruction", c.instruction, without="data"),
            needs=("pretrain", "instructions", "tokenizer"),
            reads_too=lambda c: ("dataset",) if replays_own_text(c) else (),
            sources=replayed_source,
            place=lambda c: place_in_run("finetune", c.instruction.output_dir, c),
            outputs="final/**/*",
            resumable=True,
            goes_on_with_other=lambda c: _rows_if(c.instruction.allow_data_change, "instructions"),
        ),
        *preference_stages(
            lambda inputs: inputs["finetune"].directory / "final",
            lambda inputs: Tokenizer.from_file(inputs["tokenizer"].directory),
            needs=("finetune", "tokenizer"),
        ),
        Stage(
            name="evaluate",
            run=evaluate,
            settings=lambda c: (
                section("evaluation", c.evaluation, without="tasks")
                | section("training", c.training, "document_masking")
            ),
            needs=("dataset", "pretrain"),
            wants=("instructions", "finetune", "preference"),
            sources=lambda c: {
                "tasks": [[path.stem, sha256_or_missing(path)] for path in c.evaluation.tasks]
            },
            version=3,
            place=lambda c: c.run.directory / "evaluation",
        ),
    )


def preference_stages(
    answering: Callable[[Inputs], Path],
    tokenizer: Callable[[Inputs], Tokenizer],
    *,
    needs: tuple[str, ...] = (),
    made_from: Mapping[str, Any] = {},
) -> tuple[Stage[PipelineConfig], ...]:
    """Pairs of answers → rows, with how likely a model finds each answer → a model that finds the better ones likelier.

    Args:
        answering: Where the model is that answers.
        needs: The stages that make it and the tokenizer.
        made_from: What else they come from, where no stage makes them.
    """
    return (
        Stage(
            name="preferences",
            run=lambda c, inputs, out: preference_rows(c, answering(inputs), tokenizer(inputs), out),
            settings=lambda c: (
                section("preference", c.preference, *ROW_SETTINGS) | section("data", c.data, "seed")
            ),
            needs=needs,
            sources=lambda c: {**preference_source(c), **made_from},
            disabled_because=no_preferences,
            place=lambda c: c.run.directory / "preferences",
        ),
        Stage(
            name="preference",
            run=lambda c, inputs, out: prefer(
                c, answering(inputs), tokenizer(inputs), inputs["preferences"].directory, out
            ),
            settings=lambda c: section("preference", c.preference, without="data"),
            needs=(*needs, "preferences"),
            sources=lambda c: made_from,
            disabled_because=no_preferences,
            place=lambda c: place_in_run("preference", c.preference.output_dir, c),
            outputs="final/**/*",
            resumable=True,
            goes_on_with_other=lambda c: _rows_if(c.preference.allow_data_change, "preferences"),
        ),
    )


def preference_line(answering: Path, tokenizer: Tokenizer) -> tuple[Stage[PipelineConfig], ...]:
    """Preference tuning alone, of a model that is there already."""
    facts = {"model": weights_digest(answering), "tokenizer": tokenizer.fingerprint}
    return preference_stages(lambda _inputs: answering, lambda _inputs: tokenizer, made_from=facts)


def tuning_line(pretrained: Path, tokenizer: Tokenizer, context: int) -> tuple[Stage[PipelineConfig], ...]:
    """Tuning alone, on instructions and then on preferences if there are any, of a model that is there already.

    Args:
        pretrained: A checkpoint directory.
        tokenizer: The one that the model was trained with.
        context: The model's context, in tokens.
    """

    def given(config: PipelineConfig) -> dict[str, Any]:
        return {"tokenizer": tokenizer.fingerprint, "context": context, **instruction_source(config)}

    return (
        Stage(
            name="instructions",
            run=lambda config, _inputs, out: conversation_rows(config, tokenizer, context, out),
            settings=lambda c: (
                section("instruction", c.instruction, "max_records", "val_split", "long_records")
                | section("data", c.data, "seed")
            ),
            sources=given,
            place=lambda c: c.run.directory / "instructions",
        ),
        Stage(
            name="finetune",
            run=lambda config, inputs, out: tune(
                config, pretrained, tokenizer, inputs["instructions"].directory, out
            ),
            settings=lambda c: section("instruction", c.instruction, without="data"),
            needs=("instructions",),
            sources=lambda c: {
                "pretrained model": weights_digest(pretrained),
                **replayed_source(c),
            },
            place=lambda c: place_in_run("finetune", c.instruction.output_dir, c),
            outputs="final/**/*",
            resumable=True,
            goes_on_with_other=lambda c: _rows_if(c.instruction.allow_data_change, "instructions"),
        ),
        *preference_stages(
            lambda inputs: inputs["finetune"].directory / "final",
            lambda _inputs: tokenizer,
            needs=("finetune",),
        ),
    )


def stage_metrics(artifacts: Mapping[str, Artifact], name: str) -> Mapping[str, Any]:
    """What a stage measured, or nothing where it was skipped."""
    return artifacts[name].metrics if name in artifacts else {}
