"""A run brought up to date with new documents and with what people said of its answers, and compared with itself.

from pipeline.update import update_run
update = update_run("runs/mine", data=["new_texts"], feedback=["runs/mine/feedback.jsonl"])
"""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.config_files import SETTINGS_FILE
from core.device_manager import DeviceManager
from core.distributed import joined
from core.errors import BloomeryError, DataError, LockedError, UsageError
from core.files import atomic_write, lock, remove
from core.manifest import read_manifest
from core.stage import Artifact, Decision, Inputs, Selection, Stage
from core.training_config import PipelineConfig
from data_processing.document import Dropped
from data_processing.reports.corpus_files import read_lines
from data_processing.reports.forgetting import FORGOTTEN_NAME
from data_processing.rows.conversations import to_conversation
from data_processing.rows.json_records import read_json_records
from data_processing.sources.remote_files import is_url
from evaluation.comparison import Two, compare_models, objections
from evaluation.run_facts import curriculum
from evaluation.run_places import DataPlaces
from evaluation.suite import SCORES
from inference.model_directory import UPDATES, latest_number
from pipeline.generations import (
    Update,
    check_is_run,
    directory_of,
    line_of,
    record_of,
    stand_for,
    updates_of,
)
from pipeline.initial_model import weights_digest
from pipeline.run import train_llm_from_scratch
from pipeline.sources import Sources
from pipeline.stage_parts import section, sha256_or_missing
from pipeline.stages import line
from pipeline.together import Caller, answer_calls
from pipeline.update_settings import Asked, FinishedRun, learning_answers, learning_text, records_before

logger = logging.getLogger(__name__)


def update_run(
    run: str | Path,
    *,
    data: Sequence[str | Path] = (),
    feedback: Sequence[str | Path] = (),
    feedback_weight: float = 1.0,
    tolerance: float = 0.02,
    overrides: Mapping[str, Any] | None = None,
    sources: Sources | None = None,
    command: str = "",
    announce: Callable[[Decision], None] | None = None,
) -> Update | None:
    """Train what `run` stands for further on what is new, and let `run` stand for the result if that is no worse.

    Without `data` and `feedback`, new is what was added to the places that the run's documents come from. The same call
    again goes on where an earlier one stopped, whatever stopped it. Nothing of the run is changed but `latest`.

    Args:
        data: Directories and files of new documents.
        feedback: Files of what people said of answers, or of other instruction records; alone, no text is learned.
        feedback_weight: How often such a record is learned for once that one of the run's own is (above 0 to 100).
        tolerance: How many more bits per byte held-out text may take, as a share (`evaluation.comparison.objections`).
        overrides: Settings laid over those of the run, by section.
        sources: As given to `train_llm_from_scratch`, where the run's texts came from Python.
        command: What the user typed, for the record.

    Returns:
        The update, with `objections` among its facts; None where nothing is new.

    Raises:
        UsageError: another update of the run is not finished.
        DataError: it is no run, what it was made from is gone, or what is named cannot be read.
        LockedError: another process updates the run.
        BloomeryError: as `train_llm_from_scratch`.
    """
    run = Path(run)
    with joined() as world:
        if not world.is_main:
            answer_calls(world, lambda: train_llm_from_scratch(None, sources))
            return None
        with Caller(world) as caller:
            check_is_run(run)
            _check_places(data)
            asked = Asked(
                data=tuple(str(place if is_url(place) else Path(place).absolute()) for place in data),
                feedback=tuple(str(Path(place).absolute()) for place in feedback),
                feedback_weight=feedback_weight,
                # As the record will have it: a path is a text there.
                overrides=json.loads(json.dumps(overrides or {}, default=str)),
            )
            with lock(run / UPDATES / ".lock", held=run):
                update = _begun(run, asked, tolerance, sources, command)

                def train(config: PipelineConfig, selection: Selection, *more: Stage[PipelineConfig]) -> Any:
                    return caller.call(
                        lambda: train_llm_from_scratch(
                            config, sources, selection=selection, announce=announce, more_stages=more
                        )
                    )

                if update is None:
                    return None
                with _refusal_leaves_nothing(update):
                    is_new = _carry_out(update, asked, train)
                return _judged(update, tolerance) if is_new else None


@contextlib.contextmanager
def _refusal_leaves_nothing(update: Update) -> Iterator[None]:
    """An update that is refused in its first stage is not one that has to be finished or given up."""
    try:
        yield
    except LockedError:
        raise  # another process works on it, such as one that trains this update as a run
    except BloomeryError:
        made = {path.parent.name for path in update.directory.glob("*/MANIFEST.json")}
        if not made - {"data_report"}:  # that one was copied
            _delete(update)
        raise


def _check_places(places: Sequence[str | Path]) -> None:
    for place in places:
        if not is_url(place):
            if not Path(place).exists():
                raise DataError(
                    f"--data {place}: no such file or directory (seen from {Path.cwd()}); correct the name"
                )
            if Path(place).is_dir() and not any(Path(place).iterdir()):
                raise DataError(f"--data {place}: an empty directory; put documents into it, or name another")


def _delete(update: Update) -> None:
    remove(record_of(update.run, update.number))
    remove(update.directory)


def _begun(run: Path, asked: Asked, tolerance: float, sources: Sources | None, command: str) -> Update | None:
    """The update that was not finished, if it was to learn the same; else a new one; None where nothing is new."""
    known = updates_of(run)
    parent = latest_number(run)
    unfinished = next((update for update in known if not update.is_finished), None)
    if unfinished is not None:
        if unfinished.facts["asked"] != asked.as_json():
            raise UsageError(
                f"{run}: update {unfinished.number} is not finished, and it was to learn something else; go on with it "
                f"({unfinished.facts['command'] or 'the same call'}), or give it up with `python scripts/update.py "
                f"{run} --give-up`"
            )
        logger.info("going on with update %d of %s", unfinished.number, run)
        return unfinished
    records = list(_new_records(asked.feedback, records_before(run, parent)))
    if asked.feedback and not records and not asked.data:
        logger.info("%s: every usable record was learned before", ", ".join(asked.feedback))
        return None
    for twin in known:
        if (
            twin.facts["asked"] == asked.as_json()
            and twin.parent == parent
            and _is_as_then(twin, asked, records, sources)
        ):
            if twin.facts["tolerance"] != tolerance:
                return twin  # to be judged again
            why = "; ".join(twin.facts["objections"]) or "gone back from"
            raise UsageError(
                f"{run}: update {twin.number} has learned just this and is not in use ({why}); use it with `python "
                f"scripts/update.py {run} --use {twin.number}`, or change a setting"
            )
    # Also of updates whose record is gone: what was trained is not overwritten.
    places = [path for path in (run / UPDATES).glob("*") if path.name.isdecimal()]
    trained = [int(path.name) for path in places if (path / SETTINGS_FILE).is_file()]
    number = max([0, *(update.number for update in known), *trained]) + 1
    update = Update(run, number, {"parent": parent, "asked": asked.as_json(), "command": command})
    directory = update.directory
    remove(directory)  # what a kill left before there was a record
    with lock(directory / ".lock", held=directory):
        if records:
            atomic_write(update.records, "".join(f"{record}\n" for record in records))
        forgotten = [
            act
            for number in reversed(line_of(run, parent))
            for act in read_lines(directory_of(run, number) / FORGOTTEN_NAME)
            if not act.get("inherited")
        ]
        if forgotten:
            acts = [json.dumps({**act, "inherited": True}) for act in forgotten]
            atomic_write(directory / FORGOTTEN_NAME, "".join(f"{act}\n" for act in acts))
    return update.record()


def _is_as_then(update: Update, asked: Asked, records: Sequence[str], sources: Sources | None) -> bool:
    """Whether an update that was asked for the same found the same records and documents."""
    then = update.records.read_text(encoding="utf-8").split("\n")[:-1] if update.records.is_file() else []
    if then != records:
        return False
    made = read_manifest(update.directory / "corpus")
    if made is None:
        return True
    config = learning_text(update, asked, FinishedRun.open(directory_of(update.run, update.parent)))
    collecting, *_ = line(sources)
    return bool(dict(collecting.sources(config)) == made["recipe"]["sources"])


def _new_records(files: Sequence[str], before: Sequence[Update]) -> Iterator[str]:
    """Each usable record that was not learned before, as one line of JSON."""
    seen = {line for update in before for line in update.records.read_text(encoding="utf-8").split("\n")}
    unusable = 0
    for file in files:
        for record in read_json_records(Path(file)):
            item = None if record.problem else to_conversation(record.value, source=f"{file}:{record.line}")
            if item is None or isinstance(item, Dropped):
                unusable += 1
                continue
            text = json.dumps(record.value, ensure_ascii=False, sort_keys=True)
            # Half a surrogate pair, as a cut answer ends in, is no UTF-8; Python's escape of it is that of JSON.
            line_of_json = text.encode("utf-8", "backslashreplace").decode("utf-8")
            if line_of_json not in seen:
                seen.add(line_of_json)
                yield line_of_json
    if unusable:
        logger.info(
            "feedback: %d records have nothing to learn (rated down without a correction, or broken)",
            unusable,
        )


Train = Callable[..., Any]


def _carry_out(update: Update, asked: Asked, train: Train) -> bool:
    """Bring everything up to date that the news reach, and compare; False where there were no news."""
    earlier = FinishedRun.open(directory_of(update.run, update.parent))
    if asked.data or not asked.feedback:
        config = learning_text(update, asked, earlier)
        artifacts = train(config, Selection(until="dataset")).artifacts
        new = artifacts["dataset"].metrics["splits"].get("train")
        if new is not None:
            logger.info(
                "%s new documents of %s tokens, to be learned %.1f times",
                f"{new['documents']:,}",
                f"{new['tokens']:,}",
                config.training.epochs,
            )
            train(config, Selection(), _comparison(update, earlier, config))
            return True
        if not update.records.is_file():
            logger.info("%s: no new document to learn; nothing was changed", update.run)
            _delete(update)
            return False
        logger.info("no new document to learn; going on with what people said")
        for artifact in artifacts.values():
            remove(artifact.directory)
    config = learning_answers(update, asked, earlier)
    selection = Selection(skip=frozenset({"collect", "tokenizer", "dataset", "pretrain"}))
    train(config, selection, _comparison(update, earlier, config))
    return True


def _comparison(update: Update, earlier: FinishedRun, config: PipelineConfig) -> Stage[PipelineConfig]:
    """The stage behind the others in which both models are measured."""

    def run(config: PipelineConfig, inputs: Inputs, out: Path) -> Mapping[str, Any]:
        return _compared(update, earlier, config, inputs)

    return Stage(
        name="comparison",
        run=run,
        settings=lambda c: section("evaluation", c.evaluation, without="tasks"),
        needs=("pretrain", "dataset", "collect"),
        wants=("instructions", "finetune", "preference"),
        sources=lambda c: {
            "earlier models": [
                weights_digest(path) for path in (earlier.continuing, earlier.answering) if path is not None
            ],
            "tasks": [[path.stem, sha256_or_missing(path)] for path in c.evaluation.tasks],
        },
        place=lambda c: c.run.directory / "comparison",
    )


def _compared(update: Update, earlier: FinishedRun, config: PipelineConfig, inputs: Inputs) -> dict[str, Any]:
    def final(*stages: str) -> Path | None:
        found: list[Artifact] = [inputs[stage] for stage in stages if stage in inputs]
        return found[0].directory / "final" if found else None

    continuing, answering = final("pretrain"), final("preference", "finetune")
    assert continuing is not None
    learned_text = inputs["dataset"].directory != earlier.places["dataset"]
    return compare_models(
        config.evaluation,
        DeviceManager(config.training.device),
        continuing=Two(earlier.continuing, continuing),
        answering=None
        if answering is None or earlier.answering is None
        else Two(earlier.answering, answering),
        earlier=earlier.data if learned_text else None,
        now=DataPlaces(inputs["collect"].directory, inputs["dataset"].directory) if learned_text else None,
        conversations=inputs["instructions"].directory if "instructions" in inputs else None,
        corrections=[update.records] if update.records.is_file() else [],
        scores=config.run.directory / SCORES,
    )


def _judged(update: Update, tolerance: float) -> Update:
    """The update with what speaks against it; where nothing does, the run stands for it from now on."""
    manifest = read_manifest(update.directory / "comparison")
    assert manifest is not None
    found = objections(manifest["metrics"], tolerance=tolerance)
    # First used and then finished: a kill in between is mended by the same command.
    if not found:
        stand_for(update.run, update.number, because="no worse than what it was made from")
    return update.record(
        learned=curriculum(update.directory)[-1],
        comparison=manifest["metrics"],
        tolerance=tolerance,
        objections=found,
    )


def give_up(run: Path) -> int:
    """Delete the update that is not finished, with what it made; returns its number.

    Raises:
        UsageError: there is none.
        LockedError: a process works on it.
    """
    check_is_run(run)
    with lock(run / UPDATES / ".lock", held=run):
        unfinished = next((update for update in updates_of(run) if not update.is_finished), None)
        if unfinished is None:
            raise UsageError(f"{run}: no update of it is unfinished")
        if latest_number(run) == unfinished.number:
            stand_for(run, unfinished.parent, because="given up")
        _delete(unfinished)
    return unfinished.number
