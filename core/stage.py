"""What a stage, its artifact and a decision about it are. Knows neither how one is decided nor how it is carried out.

A stage is frozen data; the line is an ordered tuple of them, each reading earlier artifacts and writing one directory
whose manifest says what it was made from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from core.config import Config
from core.errors import CorruptArtifactError
from core.manifest import MANIFEST_NAME, read_manifest, verify_files

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Artifact:
    """A finished stage's directory and what its manifest says of it."""

    stage: str
    directory: Path
    fingerprint: str
    metrics: Mapping[str, Any]


Inputs = Mapping[str, Artifact]


def _no_sources(_config: Any) -> Mapping[str, Any]:
    return {}


def _nothing(_config: Any) -> frozenset[str]:
    return frozenset()


def _no_others(_config: Any) -> tuple[str, ...]:
    return ()


def _no_command(_config: Any) -> str | None:
    return None


def _always(_config: Any) -> str | None:
    return None


@dataclass(frozen=True)
class Stage(Generic[C]):
    """One step of the line.

    Attributes:
        run: Does the work: `(config, inputs by stage name, directory to write into) -> metrics`.
        settings: The settings that decide the result, by dotted name.
        place: The directory of the artifact.
        needs: Names of the stages whose artifacts `run` reads; it is skipped when one of them is.
        wants: Names of further stages whose artifacts `run` reads where they are there.
        reads_too: Names of stages that its needs are made from, whose artifacts `run` reads itself under a
            configuration.
        sources: What else it reads from outside the line, by name, as fingerprints.
        disabled_because: Why the stage has nothing to do under this configuration, or None.
        outputs: Which files below the directory are the result (a glob).
        content: Which of them later stages are made from (a glob); the fingerprint is over these. None = all.
        version: To be raised when the code's result changes under equal settings.
        resumable: Whether `run` continues what a killed `run` left in its directory. Such stages are the
            expensive ones, and a finished one is never redone unless the user asks.
        goes_on_with_other: Inputs that a resumable stage, while it is not finished, goes on with although they are not
            those that it began with.
        repair: The command that mends a damaged artifact, where there is one; named with the damage.
    """

    name: str
    run: Callable[[C, Inputs, Path], Mapping[str, Any]]
    settings: Callable[[C], Mapping[str, Any]]
    place: Callable[[C], Path]
    needs: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    reads_too: Callable[[C], tuple[str, ...]] = _no_others
    sources: Callable[[C], Mapping[str, Any]] = _no_sources
    disabled_because: Callable[[C], str | None] = _always
    outputs: str = "**/*"
    content: str | None = None
    version: int = 1
    resumable: bool = False
    goes_on_with_other: Callable[[C], frozenset[str]] = _nothing
    repair: Callable[[C], str | None] = _no_command

    def reads(self, config: C) -> tuple[str, ...]:
        """Names of all stages whose artifacts it reads."""
        return (*self.needs, *self.wants, *self.reads_too(config))


@dataclass(frozen=True)
class Selection:
    """What the user asked for beyond "everything that is not done yet".

    Attributes:
        until: Last stage to run.
        only: The one stage to run; the artifacts it needs are taken as they are.
        rebuild: Stages to redo, and with them whatever becomes stale.
        skip: Stages whose artifacts are taken as they are.
    """

    until: str | None = None
    only: str | None = None
    rebuild: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()

    def may_run(self, stage: str, names: Sequence[str]) -> bool:
        """Whether `stage` is among those of `names`, in the line's order, that the user has not ruled out."""
        if stage in self.skip or self.only not in (None, stage):
            return False
        return self.until not in names or names.index(stage) <= names.index(self.until)


Action = Literal["reuse", "run", "continue", "redo", "blocked", "taken as it is", "skipped"]


@dataclass(frozen=True)
class Decision:
    """What will happen to one stage, and why."""

    stage: str
    action: Action
    directory: Path
    reasons: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    """What changed first, here or in a stage before."""
    artifact: Artifact | None = field(default=None, repr=False)

    def __str__(self) -> str:
        ways_out = [f"--rebuild {self.stage} to redo it"] if self.action == "blocked" else []
        why = f"  ({'; '.join([*self.reasons, *ways_out])})" if self.reasons else ""
        return f"{self.stage:<12} {self.action:<14} {self.directory}{why}"


RECIPE_KEYS = ("stage", "version", "settings", "inputs", "sources")
"""What a manifest says that an artifact was made from; see `core.stage_plan.recipe_of`."""


def load_artifact(name: str, directory: Path) -> Artifact | None:
    """The finished artifact in `directory`, its files checked, or None where no finished one is.

    Raises:
        CorruptArtifactError: a file is not what the manifest says, or it is the manifest of no stage.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        return None
    is_complete = manifest.get("status") == "complete"
    needed = ("recipe", "files", "fingerprint", "metrics") if is_complete else ("recipe",)
    lacking = [key for key in needed if key not in manifest]
    lacking += [f"recipe.{key}" for key in RECIPE_KEYS if key not in manifest.get("recipe", {})]
    if lacking:
        raise CorruptArtifactError(
            f"{directory / MANIFEST_NAME}: lacks {', '.join(lacking)}; no stage wrote it"
        )
    if not is_complete:
        return None
    verify_files(directory, manifest["files"])
    return Artifact(name, directory, manifest["fingerprint"], manifest["metrics"])
