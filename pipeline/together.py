"""How several processes go through the line: the main one decides and works, the others join it where a stage trains.

Knows neither what a stage computes nor how processes find each other.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from core.distributed import World
from core.errors import BloomeryError, MainProcessError
from core.stage import Artifact, Inputs, Stage
from core.training_config import PipelineConfig

Line = tuple[Stage[PipelineConfig], ...]
Result = TypeVar("Result")


class Leader:
    """The main process' side. As a context, it tells the others of an error that they cannot notice by themselves.

    Args:
        world: The processes; in a world of one nothing is told to nobody.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_training = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # Where all train together they wait for each other, and not for a word: there, that this one ends is the word.
        if isinstance(error, BloomeryError) and not self._is_training:
            self._tell({"failed": str(error), "exit_code": error.exit_code})

    def sharing(self, stages: Iterable[Stage[PipelineConfig]]) -> Line:
        """The stages, of which those that train begin by calling the other processes."""
        return tuple(self._shared(stage) if stage.resumable else stage for stage in stages)

    def finish(self, config: PipelineConfig, artifacts: Mapping[str, Artifact]) -> None:
        """Let the others go, with what came out."""
        self._tell({"config": config.to_dict(), "done": _as_json(artifacts)})

    def _shared(self, stage: Stage[PipelineConfig]) -> Stage[PipelineConfig]:
        def run(config: PipelineConfig, inputs: Inputs, out: Path) -> Mapping[str, Any]:
            self._tell(
                {
                    "stage": stage.name,
                    "config": config.to_dict(),
                    "inputs": _as_json(inputs),
                    "place": str(out),
                }
            )
            self._is_training = True
            metrics = stage.run(config, inputs, out)
            self._is_training = False
            return metrics

        return dataclasses.replace(stage, run=run)

    def _tell(self, message: Mapping[str, Any]) -> None:
        self._world.from_main(lambda: message)


def follow(
    world: World, stages: Iterable[Stage[PipelineConfig]]
) -> tuple[PipelineConfig, dict[str, Artifact]]:
    """The other processes' side: run what the main one calls them to, until it is done; what came out in the end.

    Raises:
        MainProcessError: the main process failed, and has said why.
        PeerLostError: it ended without a word.
    """
    by_name = {stage.name: stage for stage in stages}
    while True:
        message = world.from_main(_is_not_main)
        if "failed" in message:
            raise MainProcessError(message["failed"], exit_code=message["exit_code"])
        config = PipelineConfig.from_dict(message["config"])
        if "done" in message:
            return config, _artifacts(message["done"])
        by_name[message["stage"]].run(config, _artifacts(message["inputs"]), Path(message["place"]))


def _is_not_main() -> NoReturn:
    raise AssertionError("only the main process makes what it tells")


def _as_json(artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    return {
        name: {**dataclasses.asdict(artifact), "directory": str(artifact.directory)}
        for name, artifact in artifacts.items()
    }


def _artifacts(values: Mapping[str, Any]) -> dict[str, Artifact]:
    return {
        name: Artifact(**{**value, "directory": Path(value["directory"])}) for name, value in values.items()
    }


class Caller:
    """The main process' side of several lines, one after the other. As a context, it tells the others of an error
    between them, and lets them go in the end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_in_line = False

    def call(self, run_line: Callable[[], Result]) -> Result:
        """What `run_line` returns, while the others run it too."""
        self._world.from_main(lambda: {"line": True})
        self._is_in_line = True
        result = run_line()
        self._is_in_line = False
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is None:
            self._world.from_main(lambda: {"line": False})
        elif isinstance(error, BloomeryError) and not self._is_in_line:
            message = {"failed": str(error), "exit_code": error.exit_code}
            self._world.from_main(lambda: message)


def answer_calls(world: World, run_line: Callable[[], object]) -> None:
    """The other processes' side: run a line each time that the main one calls.

    Raises:
        MainProcessError: the main process failed between lines, and has said why.
        PeerLostError: it ended without a word.
    """
    while True:
        message = world.from_main(_is_not_main)
        if "failed" in message:
            raise MainProcessError(message["failed"], exit_code=message["exit_code"])
        if not message["line"]:
            return
        run_line()
