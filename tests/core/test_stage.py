import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from core.config import Config
from core.errors import ConfigError, StaleArtifactError, UsageError
from core.stage import Decision, Inputs, Selection, Stage
from core.stage_plan import plan_stages
from core.stage_run import run_stages


class Settings(Config):
    root: Path = Path()
    letters: str = "abc"
    times: int = Field(2, ge=1, le=100, description="Repeats (a number).")
    steps: int = Field(3, ge=1, le=100, description="Steps.")
    other_text: bool = Field(False, description="Go on with another text.")


class Line:
    """Three stages: spell → repeat → train (resumable), and report, which wants train."""

    def __init__(self, root: Path) -> None:
        self.calls: list[str] = []
        self.fail_in: str | None = None
        self.raw: Mapping[str, str] = {"a.txt": "1"}
        self.disabled: str | None = None
        place = lambda name: lambda c: c.root / name  # noqa: E731 - four of a kind below
        self.stages = (
            Stage(
                "spell",
                self.spell,
                lambda c: {"letters": c.letters},
                place("spell"),
                sources=lambda c: {"raw": dict(self.raw)},
            ),
            Stage("repeat", self.repeat, lambda c: {"times": c.times}, place("repeat"), needs=("spell",)),
            Stage(
                "train",
                self.train,
                lambda c: {"steps": c.steps},
                place("train"),
                needs=("repeat",),
                outputs="final/*",
                resumable=True,
                disabled_because=lambda c: self.disabled,
                goes_on_with_other=lambda c: frozenset({"repeat"}) if c.other_text else frozenset(),
            ),
            Stage("report", self.report, lambda c: {}, place("report"), needs=("repeat",), wants=("train",)),
        )
        self.config = Settings(root=root)

    def _note(self, name: str) -> None:
        self.calls.append(name)

    def spell(self, config: Settings, inputs: Inputs, out: Path) -> dict[str, Any]:
        self._note("spell")
        (out / "text").write_text(config.letters.lower())
        return {"length": len(config.letters)}

    def repeat(self, config: Settings, inputs: Inputs, out: Path) -> dict[str, Any]:
        self._note("repeat")
        text = (inputs["spell"].directory / "text").read_text()
        (out / "text").write_text(text * config.times)
        return {}

    def train(self, config: Settings, inputs: Inputs, out: Path) -> dict[str, Any]:
        self._note("train")
        done = sorted(out.glob("step_*"))
        for step in range(len(done), config.steps):
            (out / f"step_{step}").write_text("x")
            if self.fail_in == "train" and step == 1:
                raise KeyboardInterrupt
        (out / "final").mkdir()
        (out / "final" / "weights").write_text((inputs["repeat"].directory / "text").read_text())
        return {"resumed_from": len(done)}

    def report(self, config: Settings, inputs: Inputs, out: Path) -> dict[str, Any]:
        self._note("report")
        (out / "inputs").write_text(",".join(sorted(inputs)))
        return {}

    def run(self, selection: Selection = Selection(), **changes: Any) -> list[Decision]:
        self.calls.clear()
        decisions: list[Decision] = []
        self.artifacts = run_stages(
            self.stages, self.config.replace(**changes), selection, announce=decisions.append
        )
        return decisions

    def actions(self, selection: Selection = Selection(), **changes: Any) -> dict[str, str]:
        return {
            d.stage: d.action for d in plan_stages(self.stages, self.config.replace(**changes), selection)
        }


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def test_each_stage_runs_once_and_is_then_reused(line: Line) -> None:
    line.run()
    assert line.calls == ["spell", "repeat", "train", "report"]
    assert line.artifacts["spell"].metrics == {"length": 3}
    line.run()
    assert line.calls == []
    assert line.artifacts["train"].metrics == {"resumed_from": 0}


def test_the_manifest_says_what_the_artifact_was_made_from(line: Line) -> None:
    line.run()
    manifest = json.loads((line.config.root / "repeat" / "MANIFEST.json").read_text())
    assert manifest["recipe"]["settings"] == {"times": 2}
    assert manifest["recipe"]["inputs"] == {"spell": line.artifacts["spell"].fingerprint}
    assert manifest["files"][0]["size"] == 6
    assert manifest["config"]["letters"] == "abc"
    assert {"python", "torch", "bloomery"} <= manifest["versions"].keys()


def test_a_changed_setting_is_named_and_the_old_result_is_kept(line: Line) -> None:
    line.run(Selection(until="repeat"))
    decisions = line.run(Selection(until="repeat"), times=3)
    assert decisions[1].action == "redo"
    assert decisions[1].reasons == ("times: was 2, now 3",)
    assert (line.config.root / "repeat.stale-1" / "text").read_text() == "abcabc"
    assert (line.config.root / "repeat" / "text").read_text() == "abcabcabc"


def test_a_changed_raw_file_is_named(line: Line) -> None:
    line.run(Selection(until="spell"))
    line.raw = {"a.txt": "1", "b.txt": "2"}
    decision = plan_stages(line.stages, line.config)[0]
    assert decision.action == "redo"
    assert decision.reasons == ("raw.b.txt: was None, now 2",)


def test_a_finished_training_is_not_redone_unasked_and_nothing_before_it_is_touched(line: Line) -> None:
    line.run()
    with pytest.raises(
        StaleArtifactError, match=r"train at .* have to be redone: steps: was 3, now 4"
    ) as error:
        line.run(steps=4)
    assert "--rebuild train" in str(error.value)
    with pytest.raises(
        StaleArtifactError, match=r"repeat is made anew \(letters: was abc, now xyz\)\. Either"
    ):
        line.run(letters="xyz")
    assert line.calls == []
    assert (line.config.root / "spell" / "text").read_text() == "abc"


def test_rebuilding_a_stage_allows_what_depends_on_it_to_be_redone(line: Line) -> None:
    line.run()
    line.run(Selection(rebuild=frozenset({"spell"})), letters="xyz")
    assert line.calls == ["spell", "repeat", "train", "report"]
    assert (line.config.root / "train.stale-1" / "final" / "weights").read_text() == "abcabc"


def test_a_change_that_alters_nothing_stops_where_the_content_is_equal(line: Line) -> None:
    line.run(Selection(until="repeat"))
    line.run(Selection(until="repeat"), letters="ABC")  # spelled in lower case: the same text
    assert line.calls == ["spell"]


def test_a_lost_early_artifact_is_made_again_without_redoing_training(line: Line) -> None:
    line.run()
    (line.config.root / "spell").rename(line.config.root / "elsewhere")
    line.run()
    assert line.calls == ["spell"]


def test_an_interrupted_training_is_continued(line: Line) -> None:
    line.fail_in = "train"
    with pytest.raises(KeyboardInterrupt):
        line.run()
    line.fail_in = None
    assert line.actions()["train"] == "continue"
    line.run()
    assert line.calls == ["train", "report"]
    assert line.artifacts["train"].metrics == {"resumed_from": 2}


def test_an_interrupted_training_goes_on_with_another_input_where_that_is_allowed(line: Line) -> None:
    line.fail_in = "train"
    with pytest.raises(KeyboardInterrupt):
        line.run()
    line.fail_in = None
    assert line.actions(letters="xyz")["train"] == "blocked"
    assert line.actions(letters="xyz", other_text=True)["train"] == "continue"
    with pytest.raises(StaleArtifactError, match="steps: was 3, now 5"):
        line.run(letters="xyz", other_text=True, steps=5)
    decisions = {d.stage: d for d in line.run(letters="xyz", other_text=True)}
    assert decisions["train"].reasons == ("with another repeat than it began with, as allowed",)
    assert line.artifacts["train"].metrics == {"resumed_from": 2}
    assert (line.config.root / "train" / "final" / "weights").read_text() == "xyzxyz"
    # What it was made from last is what it is compared with from now on, and finished it goes on with nothing else.
    assert set(line.actions(letters="xyz").values()) == {"reuse"}
    assert line.actions(letters="qrs", other_text=True)["train"] == "blocked"


def test_an_interrupted_training_with_another_setting_is_refused(line: Line) -> None:
    line.fail_in = "train"
    with pytest.raises(KeyboardInterrupt):
        line.run()
    with pytest.raises(StaleArtifactError, match="steps: was 3, now 5"):
        line.run(steps=5)


def test_a_stage_that_fails_leaves_nothing_under_its_name(line: Line) -> None:
    def explode(config: Settings, inputs: Inputs, out: Path) -> dict[str, Any]:
        (out / "text").write_text("half")
        raise RuntimeError("boom")

    broken = dataclasses.replace(line.stages[1], run=explode)
    with pytest.raises(RuntimeError, match="boom"):
        run_stages((line.stages[0], broken), line.config)
    assert sorted(p.name for p in line.config.root.iterdir()) == ["spell"]


@pytest.mark.parametrize(
    ("damage", "reason"), [("text", "bytes long"), ("text-same-size", "content changed"), ("gone", "missing")]
)
def test_a_damaged_file_is_found_and_the_artifact_made_again(line: Line, damage: str, reason: str) -> None:
    line.run(Selection(until="spell"))
    path = line.config.root / "spell" / "text"
    if damage == "gone":
        path.unlink()
    else:
        path.write_text("abd" if damage == "text-same-size" else "ab")
    decision = plan_stages(line.stages, line.config)[0]
    assert decision.action == "redo"
    assert reason in decision.reasons[0]
    line.run(Selection(until="spell"))
    assert path.read_text() == "abc"


def test_a_damaged_training_result_stops_the_run(line: Line) -> None:
    line.run()
    (line.config.root / "train" / "final" / "weights").write_text("other!")
    with pytest.raises(StaleArtifactError, match="content changed"):
        line.run()


def test_until_and_only_and_skip_select(line: Line) -> None:
    line.run(Selection(until="repeat"))
    assert line.calls == ["spell", "repeat"]
    line.run(Selection(only="train"), letters="changed, but spell is taken as it is")
    assert line.calls == ["train"]
    line.run(Selection(skip=frozenset({"spell", "train"})), letters="changed", steps=9)
    assert line.calls == ["report"]


def test_only_does_not_ask_for_what_the_stage_does_not_need(line: Line) -> None:
    line.run(Selection(only="spell"))
    assert line.calls == ["spell"]
    assert line.actions(Selection(only="spell"))["report"] == "skipped"


def test_only_does_without_what_a_stage_merely_wants(line: Line) -> None:
    line.run(Selection(until="repeat"))
    line.run(Selection(only="report"))
    assert (line.config.root / "report" / "inputs").read_text() == "repeat"


def test_an_input_that_is_not_there_any_more_makes_stale(line: Line) -> None:
    line.run()
    line.disabled = "its data is gone"
    assert line.run()[3].reasons == ("train is not there any more",)
    assert (line.config.root / "report" / "inputs").read_text() == "repeat"


def test_skipping_a_stage_that_has_nothing_is_an_error(line: Line) -> None:
    with pytest.raises(
        ConfigError, match=r"spell is to be taken as it is, but .*spell holds no finished result"
    ):
        line.run(Selection(skip=frozenset({"spell"})))


def test_a_directory_made_by_hand_can_be_taken_as_it_is(line: Line) -> None:
    (line.config.root / "spell").mkdir()
    (line.config.root / "spell" / "text").write_text("by hand ")
    line.run(Selection(skip=frozenset({"spell"}), until="repeat"))
    assert (line.config.root / "repeat" / "text").read_text() == "by hand by hand "


def test_a_directory_with_foreign_files_is_not_written_into(line: Line) -> None:
    (line.config.root / "spell").mkdir()
    (line.config.root / "spell" / "thesis.doc").write_text("precious")
    with pytest.raises(ConfigError, match="holds files that no spell stage wrote"):
        line.run()
    assert (line.config.root / "spell" / "thesis.doc").read_text() == "precious"


def test_a_disabled_stage_is_skipped_with_its_reason_and_what_wants_it_runs_without(line: Line) -> None:
    line.disabled = "no data to train on"
    decisions = line.run()
    assert decisions[2].reasons == ("no data to train on",)
    assert line.calls == ["spell", "repeat", "report"]
    assert (line.config.root / "report" / "inputs").read_text() == "repeat"
    line.disabled = None
    assert line.run()[3].reasons == ("train is new",)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (
            Selection(until="trian"),
            r"--until trian: no such stage; did you mean 'train'\? \(stages: spell, repeat",
        ),
        (Selection(rebuild=frozenset({"x"})), "--rebuild x: no such stage"),
        (Selection(only="train", until="train"), "exclude each other"),
        (
            Selection(rebuild=frozenset({"train"}), skip=frozenset({"train"})),
            "both rebuilt and taken as it is",
        ),
        (Selection(only="repeat", rebuild=frozenset({"train"})), "--only repeat contradicts"),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(line: Line, selection: Selection, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        line.run(selection)


def test_a_dry_run_reads_what_is_finished_and_writes_nothing_beside_it(line: Line, tmp_path: Path) -> None:
    line.run(Selection(until="repeat"))
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    scratch = tmp_path.parent / "scratch"
    scratch.mkdir()
    line.calls.clear()
    run_stages(line.stages, line.config, scratch=scratch)
    assert line.calls == ["train", "report"]
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before
    assert (scratch / "train" / "final" / "weights").read_text() == "abcabc"


def test_planning_writes_nothing(line: Line) -> None:
    assert line.actions() == {"spell": "run", "repeat": "run", "train": "run", "report": "run"}
    assert list(line.config.root.iterdir()) == []
