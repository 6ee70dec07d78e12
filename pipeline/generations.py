"""The updates of a run: their directories, what each was made from, and which one is used. Trains nothing.

`RUN/latest` holds the number of the update that `RUN` stands for. `RUN/updates/N` is a run like any other, made from
the run or update that `RUN/updates/N.json` names; 0 is the run itself.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.config_files import SETTINGS_FILE
from core.errors import CorruptArtifactError, DataError, UsageError
from core.files import atomic_write, lock, write_json
from core.json_files import json_object
from inference.model_directory import LATEST, UPDATES, is_update, latest_number

FEEDBACK_NAME = "new_feedback.jsonl"
"""In the directory of an update: the records that it learns from, as they were when it began."""

HISTORY = "history.jsonl"
"""In `updates`: one line for each time that another update came into use (`time`, `number`, `before`, `because`)."""


@dataclass(frozen=True)
class Update:
    """An update of a run, finished or not.

    Attributes:
        run: The run that is updated.
        number: From 1.
        facts: `parent` (number of what it goes on from), `asked` (what the user gave), `command`; once it is compared
            `learned`, `comparison` and `objections`.
    """

    run: Path
    number: int
    facts: Mapping[str, Any]

    @property
    def directory(self) -> Path:
        """Its run directory."""
        return directory_of(self.run, self.number)

    @property
    def records(self) -> Path:
        """The file of records that it learns from; there is none where it learns from text alone."""
        return self.directory / FEEDBACK_NAME

    @property
    def parent(self) -> int:
        """The number of what it goes on from; 0 = the run itself."""
        return int(self.facts["parent"])

    @property
    def is_finished(self) -> bool:
        """Whether it was compared with what it goes on from."""
        return "objections" in self.facts

    def record(self, **facts: Any) -> "Update":
        """The same update with more facts, on the disk when this returns."""
        update = Update(self.run, self.number, {**self.facts, **facts})
        write_json(record_of(self.run, self.number), update.facts)
        return update


def directory_of(run: Path, number: int) -> Path:
    """Where the results of an update are."""
    return run / UPDATES / str(number) if number else run


def record_of(run: Path, number: int) -> Path:
    """The file that says what an update was made from, beside its directory."""
    return run / UPDATES / f"{number}.json"


def check_is_run(run: Path) -> None:
    """Refuse what is no run that was trained.

    Raises:
        DataError: it is missing, a checkpoint, an update, or holds no model.
    """
    if not run.is_dir():
        found = "a file" if run.exists() else "nothing"
        raise DataError(f"{run}: expected the directory of a run, found {found}")
    if is_update(run.absolute()):
        raise DataError(
            f"{run}: is an update itself; name the run that was updated, {run.absolute().parents[1]}"
        )
    if not (run / SETTINGS_FILE).is_file():
        raise DataError(
            f"{run}: expected the directory of a run, and there is no {SETTINGS_FILE} in it; a model from elsewhere is "
            "trained further with training.init_from (scripts/train_llm_from_scratch.py)"
        )


def updates_of(run: Path) -> list[Update]:
    """All updates in the order of their numbers.

    Raises:
        CorruptArtifactError: the record of one is damaged.
    """
    return sorted(_updates(run), key=lambda update: update.number)


def _updates(run: Path) -> Iterator[Update]:
    for path in (run / UPDATES).glob("*.json"):
        if path.stem.isdecimal():
            facts = json_object(path, mistake=CorruptArtifactError)
            if not isinstance(facts.get("parent"), int) or not isinstance(facts.get("asked"), dict):
                raise CorruptArtifactError(
                    f"{path}: says not what the update was made from; restore the file"
                )
            yield Update(run, int(path.stem), facts)


def line_of(run: Path, number: int) -> list[int]:
    """`number` and what it goes on from, one after the other, down to 0.

    Raises:
        CorruptArtifactError: the record of one is missing.
    """
    parents = {update.number: update.parent for update in updates_of(run)}
    line = [number]
    while line[-1]:
        if line[-1] not in parents or parents[line[-1]] >= line[-1]:
            raise CorruptArtifactError(f"{record_of(run, line[-1])}: missing or damaged; restore the file")
        line.append(parents[line[-1]])
    return line


def use(run: Path, number: int, *, because: str) -> int:
    """Let `run` stand for another update from now on; returns the one before.

    Raises:
        UsageError: there is no such update, or it did not come to its end.
        LockedError: an update is being made.
        DiskError: the disk is full or failing; then nothing has changed.
    """
    with lock(run / UPDATES / ".lock", held=run):
        return _use(run, number, because)


def _use(run: Path, number: int, because: str) -> int:
    known = {update.number: update for update in updates_of(run)}
    if number and (number not in known or not known[number].is_finished):
        finished = [str(n) for n, update in known.items() if update.is_finished]
        found = "did not come to its end" if number in known else "is none"
        raise UsageError(f"{run}: update {number} {found} (there are: {', '.join(['0', *finished])})")
    return stand_for(run, number, because=because)


def stand_for(run: Path, number: int, *, because: str) -> int:
    """As `use`, of an update that is known to be whole."""
    before = latest_number(run)
    if number != before:
        (run / UPDATES).mkdir(exist_ok=True)
        event = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "number": number,
            "before": before,
            "because": because,
        }
        # What is used comes first: a history that lacks its last line misleads nobody.
        atomic_write(run / LATEST, f"{number}\n")
        history = run / UPDATES / HISTORY
        lines = history.read_text(encoding="utf-8") if history.is_file() else ""
        atomic_write(history, lines + json.dumps(event, ensure_ascii=False) + "\n")
    return before


def roll_back(run: Path) -> int:
    """Let `run` stand for what its latest update was made from; returns that number.

    Raises:
        UsageError: the run itself is used already.
        LockedError: an update is being made.
    """
    with lock(run / UPDATES / ".lock", held=run):
        number = latest_number(run)
        if not number:
            raise UsageError(f"{run}: no update of it is in use, so there is nothing to go back to")
        parent = line_of(run, number)[1]
        stand_for(run, parent, because="rolled back")
    return parent
