"""The whole line in one call: settle the configuration, lock the run, run the stages, hand back what came out.

from pipeline.run import train_llm_from_scratch
result = train_llm_from_scratch("configs/quickstart", {"texts": my_texts})
result.chat([{"role": "user", "content": "Hello"}])
"""

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from core.config_files import SETTINGS_FILE, lay_over, load_config
from core.distributed import joined
from core.errors import ConfigError, DataError, MismatchError
from core.files import TEMPORARY_MARK, check_writable, lock, remove, write_json
from core.stage import Artifact, Decision, Selection, Stage, load_artifact
from core.stage_plan import plan_stages
from core.stage_run import run_stages
from core.training_config import PipelineConfig
from evaluation.run_places import places_of
from inference.chat import ChatModel, find_model
from pipeline.cleaning import log_superseded
from pipeline.initial_model import shape_of
from pipeline.part_names import check_part_names
from pipeline.preflight import (
    Estimate,
    check,
    check_instruction_file,
    check_named_files,
    preset_for_device,
    settle,
)
from pipeline.run_plan import plan_for
from pipeline.sources import Sources, check_sources
from pipeline.stages import digests_database, line, preference_line, tuning_line
from pipeline.together import Leader, follow
from pipeline.tuning import no_instructions, replays_own_text
from tokenization.tokenizer import Tokenizer, holds_tokenizer

logger = logging.getLogger(__name__)

DRY_RUN_TRAINING: Mapping[str, Any] = {
    "total_steps": 1,
    "epochs": None,
    "time_budget_seconds": None,
    "warmup_steps": 0,
    "eval_batches": 1,
    "wandb": "disabled",
    "output_dir": None,
}
DRY_RUN_CHANGES: Mapping[str, Any] = {
    "run": {"time_budget": None},
    "training": DRY_RUN_TRAINING,
    "instruction": DRY_RUN_TRAINING,
    "preference": DRY_RUN_TRAINING,
    "evaluation": {
        "num_questions": 2,
        "num_validation_questions": 2,
        "max_batches": 1,
        "max_answer_tokens": 8,
        "num_documents": 1,
        "tasks": [],
        "quality": False,
        "speed": False,
    },
}


@dataclass(frozen=True)
class TrainedLine:
    """What a run left: the artifacts by stage, and the newest model to talk to."""

    config: PipelineConfig
    artifacts: Mapping[str, Artifact]

    @property
    def model_directory(self) -> Path:
        """The checkpoint of the model that was tuned last, or the pretrained one's where nothing was tuned.

        Raises:
            DataError: no stage that trains has run.
        """
        for stage in ("preference", "finetune", "pretrain"):
            if stage in self.artifacts:
                return self.artifacts[stage].directory / "final"
        raise DataError(
            f"{self.config.run.directory}: no model was trained (stages: {', '.join(self.artifacts)})"
        )

    @cached_property
    def model(self) -> ChatModel:
        """The model, loaded when it is first asked for."""
        return ChatModel.load(self.model_directory, device=self.config.training.device)

    def generate(self, prompt: str, **sampling: Any) -> str:
        """How the model goes on after `prompt`: `max_tokens`, `temperature`, `top_p`, `top_k` and so on as in
        `inference.chat.ChatModel.generate`."""
        return self.model.generate(prompt, **sampling)

    def chat(self, messages: list[dict[str, str]], **sampling: Any) -> str:
        """The model's answer to a conversation, a list of `{"role": …, "content": …}` ending with the user's."""
        return self.model.chat(messages, **sampling)


def resolve_config(
    config: PipelineConfig | str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> PipelineConfig:
    """A configuration from whatever a caller has: one that is ready, a directory or file, nested values, or nothing.

    Raises:
        ConfigError: as `core.config_files.load_config`.
    """
    if isinstance(config, PipelineConfig):
        return config.replace(**overrides) if overrides else config
    if isinstance(config, str | Path):
        training = (overrides or {}).get("training")
        device = training.get("device") if isinstance(training, Mapping) else None
        return load_config(config, overrides, preset_for_auto=preset_for_device(device or "auto"))
    return load_config(
        None, lay_over(config or {}, overrides or {}), preset_for_auto=preset_for_device("auto")
    )


def plan_line(
    config: PipelineConfig, sources: Sources | None = None, selection: Selection = Selection()
) -> tuple[PipelineConfig, list[Decision], Estimate]:
    """The settled configuration, what running the line now would do, and what it needs; nothing is written."""
    config, _ = settle(config, sources)
    stages = line(sources)
    trains = _trains(stages, config, selection)
    estimate = check(config, sources, trains=trains)
    if _needs_plan(config, selection):
        config, record = plan_for(config, sources, _finished(stages[0], config), keep=False)
        estimate = replace(check(config, sources, trains=trains), planned=record["expected"])
    return config, plan_stages(stages, config, selection), estimate


def _finished(stage: Stage[PipelineConfig], config: PipelineConfig) -> Artifact | None:
    artifact = load_artifact(stage.name, stage.place(config))
    return artifact if artifact is not None and "bytes_kept" in artifact.metrics else None


def train_llm_from_scratch(
    config: PipelineConfig | str | Path | Mapping[str, Any] | None = None,
    sources: Mapping[str, Any] | None = None,
    *,
    selection: Selection = Selection(),
    announce: Callable[[Decision], None] | None = None,
    more_stages: Sequence[Stage[PipelineConfig]] = (),
) -> TrainedLine:
    """Run the line, or what is left of it, and return what came out.

    The same call again goes on where an earlier one stopped, whatever stopped it.

    Args:
        config: See `resolve_config`; None = the defaults.
        sources: `{"directory": …, "files": […], "texts": […]}`, any of them, instead of `data.raw_dir`.
        selection: Which stages; see `core.stage.Selection`.
        announce: Called with each stage's decision; None = log it.
        more_stages: Of your own, after those of the line.

    Raises:
        Preempted: SIGTERM or SIGINT (Ctrl-C) came; everything is saved.
        BloomeryError: what a setting, the input or the disk does not allow, in one line.
    """
    given = check_sources(sources)
    stages = (*line(given), *more_stages)
    with joined() as world:
        if not world.is_main:
            return TrainedLine(*follow(world, stages))
        with Leader(world) as leader:
            settled, notes = settle(resolve_config(config), given)
            for note in notes:
                logger.info(note)
            trains = _trains(stages, settled, selection)
            check(settled, given, trains=trains)
            shared = leader.sharing(stages)
            with _locked(shared, settled, selection):
                if _needs_plan(settled, selection):
                    corpus = _collected(stages[0], settled, selection)
                    settled, _ = plan_for(settled, given, corpus, keep=True)
                    check(settled, given, trains=trains)
                artifacts = _run(shared, settled, selection, announce or _log_decision)
            leader.finish(settled, artifacts)
    return TrainedLine(settled, artifacts)


def _trains(stages: Sequence[Stage[PipelineConfig]], config: PipelineConfig, selection: Selection) -> bool:
    names = [stage.name for stage in stages]
    wanted = [stage for stage in stages if stage.disabled_because(config) is None]
    return any(stage.resumable and selection.may_run(stage.name, names) for stage in wanted)


def _needs_plan(config: PipelineConfig, selection: Selection) -> bool:
    return config.run.time_budget is not None and "collect" not in (selection.only, selection.until)


def _collected(
    collect: Stage[PipelineConfig], config: PipelineConfig, selection: Selection
) -> Artifact | None:
    """The corpus, brought up to date first, because its size decides what is trained on it."""
    if selection.only is not None:
        return _finished(collect, config)
    chosen = Selection(rebuild=selection.rebuild & {collect.name}, skip=selection.skip & {collect.name})
    # The line itself says what became of it.
    artifact = run_stages((collect,), config, chosen)[collect.name]
    # One that an older program made is taken as it is, and measured nothing.
    return artifact if "bytes_kept" in artifact.metrics else None


def dry_run(
    config: PipelineConfig, sources: Sources | None = None, selection: Selection = Selection()
) -> TrainedLine:
    """Build everything that is not there yet and run one batch of each training stage, then throw it all away.

    What is finished in the run directory is read, and nothing in it is written.
    """
    with joined() as world:
        if not world.is_main:
            return TrainedLine(*follow(world, line(sources)))
        with Leader(world) as leader:
            settled, notes = settle(config, sources)
            for note in notes:
                logger.info(note)
            check(settled, sources)
            if _needs_plan(settled, selection):
                settled, _ = plan_for(settled, sources, _finished(line(sources)[0], settled), keep=False)
            scratch = Path(tempfile.mkdtemp(prefix="bloomery-dry-run-"))
            try:
                artifacts = run_stages(
                    leader.sharing(line(sources)),
                    settled.replace(**DRY_RUN_CHANGES),
                    selection,
                    announce=_log_decision,
                    scratch=scratch,
                )
            finally:
                shutil.rmtree(scratch)
            leader.finish(settled, artifacts)
    return TrainedLine(settled, artifacts)


@contextlib.contextmanager
def _locked(
    stages: Sequence[Stage[PipelineConfig]], config: PipelineConfig, selection: Selection
) -> Iterator[None]:
    """Hold the run directory and each stage's place, which another run may name as its own."""
    run_directory = config.run.directory
    may_run = [
        stage for stage in stages if stage.name not in selection.skip and selection.only in (None, stage.name)
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock(run_directory / ".lock", held=run_directory))
        check_writable(run_directory)
        for stage in may_run:
            place = stage.place(config)
            # Beside it, because a stage's own directory must not exist before it is whole.
            stack.enter_context(lock(place.parent / f".{place.name}.lock", held=place))
            check_writable(place)
        # Where digests of raw files are remembered from now on; before there was a run, nothing was to be written.
        if (digests := digests_database(config)) is not None:
            digests.parent.mkdir(parents=True, exist_ok=True)
        # Nobody else writes here now, so whatever is half-written was left by a process that was killed.
        for leftover in run_directory.glob(f".*{TEMPORARY_MARK}*"):
            remove(leftover)
        yield


def _run(
    stages: Sequence[Stage[PipelineConfig]],
    config: PipelineConfig,
    selection: Selection,
    announce: Callable[[Decision], None],
) -> dict[str, Artifact]:
    def note(decision: Decision) -> None:
        # Written with the first stage and not before: a run that is refused keeps the settings that it was made with.
        if decision.stage == stages[0].name:
            write_json(config.run.directory / SETTINGS_FILE, config.to_dict())
        announce(decision)

    artifacts = run_stages(stages, config, selection, announce=note)
    log_superseded(stages, config)
    return artifacts


def _log_decision(decision: Decision) -> None:
    logger.info("%s", decision)


def tune_pretrained_model(
    config: PipelineConfig,
    *,
    pretrained_model: Path,
    tokenizer_model: Path | None = None,
    selection: Selection = Selection(),
) -> TrainedLine:
    """Tuning of a model that is there already, into `config.run.directory`: on instructions, on preferences if
    `preference.data` names pairs, or on these alone where there are no instructions.

    Args:
        pretrained_model: A checkpoint directory, or a run directory whose newest model is taken.
        tokenizer_model: The `tokenizer.model` it was trained with; None = the one beside the model.
        selection: What to redo.

    Raises:
        MismatchError: the tokenizer is not the model's.
        ConfigError: text is to be replayed, and neither a setting nor the model's run says which.
        BloomeryError: as `train_llm_from_scratch`.
    """
    pretrained = find_model(pretrained_model)
    tokenizer = Tokenizer.from_file(tokenizer_model or pretrained)
    if holds_tokenizer(pretrained):
        own = Tokenizer.from_file(pretrained)
        if own.fingerprint != tokenizer.fingerprint:
            raise MismatchError(
                f"{tokenizer_model}: not the tokenizer that {pretrained} was trained with (fingerprint "
                f"{tokenizer.fingerprint[:12]}, expected {own.fingerprint[:12]}); leave out --tokenizer-model to "
                "use the one beside the model"
            )
    only_preferences = no_instructions(config) is not None and config.preference.data is not None
    if not only_preferences and not config.instruction.more_data:
        check_instruction_file(config.instruction.data)
    check_named_files(config)
    check_part_names(config)
    if replays_own_text(config) and not only_preferences:
        places = places_of(pretrained)
        if places is None:
            raise ConfigError(
                f"instruction.replay_share={config.instruction.replay_share:g}: {pretrained} lies in no run with a "
                "dataset; name the one that the model was trained on, such as "
                "instruction.replay_dataset=runs/mine/dataset, or set instruction.replay_share=null"
            )
        config = config.replace(instruction={"replay_dataset": str(places.dataset)})
    if only_preferences:
        stages = preference_line(pretrained, tokenizer)
    else:
        stages = tuning_line(pretrained, tokenizer, shape_of(pretrained).max_position_embeddings)
    with joined() as world:
        if not world.is_main:
            return TrainedLine(*follow(world, stages))
        with Leader(world) as leader:
            stages = leader.sharing(stages)
            with _locked(stages, config, selection):
                artifacts = _run(stages, config, selection, _log_decision)
            leader.finish(config, artifacts)
    return TrainedLine(config, artifacts)
