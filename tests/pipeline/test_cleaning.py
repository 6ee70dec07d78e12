"""What a run keeps and nothing uses: it is found, its size is true, and nothing else is touched."""

import importlib.util
import logging
from pathlib import Path
from typing import Any

import pytest

from core.errors import LockedError, UsageError
from core.files import lock, write_json
from core.manifest import write_manifest
from core.training_config import PipelineConfig
from data_processing.data_collector import DataCollector
from pipeline.cleaning import delete_unused, log_superseded, superseded_results, unfinished_collections
from pipeline.stages import line
from tests.small_texts import make_documents

STAGES = line()


def make_config(root: Path, **changes: Any) -> PipelineConfig:
    return PipelineConfig().replace(run={"dir": str(root / "run")}, **changes)


def write_result(
    place: Path, stage: str, config: PipelineConfig, *, num_bytes: int = 0, finished: bool = True
) -> None:
    (place / "final").mkdir(parents=True)
    (place / "final" / "weights").write_bytes(b"x" * num_bytes)
    recipe = {"recipe": {"stage": stage}}
    complete = {"status": "complete", "config": config.to_dict(), **recipe}
    write_manifest(place, complete if finished else {"status": "running", **recipe})


def listing(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.name != ".lock")


def test_results_that_newer_ones_replaced_are_listed_with_their_size_and_deleted(tmp_path: Path) -> None:
    config, run = make_config(tmp_path), tmp_path / "run"
    for name in ("corpus", "pretrain", "dataset"):
        write_result(run / name, {"corpus": "collect"}.get(name, name), config)
    kept = listing(run)
    write_result(run / "corpus.stale-1", "collect", config, num_bytes=5_000)
    write_result(run / "pretrain.stale-2", "pretrain", config, num_bytes=70_000)
    # A training that was stopped and then begun anew.
    write_result(run / "pretrain.stale-10", "pretrain", config, num_bytes=1_000, finished=False)
    found = superseded_results(STAGES, config, run)
    assert {one.place.name for one in found} == {"corpus.stale-1", "pretrain.stale-2", "pretrain.stale-10"}
    for one in found:
        files = [path for path in one.place.rglob("*") if path.is_file()]
        assert one.num_bytes == sum(path.stat().st_size for path in files)
    assert delete_unused(STAGES, config, run) == found
    assert [path for path in listing(run) if path.name != ".lock"] == kept
    assert superseded_results(STAGES, config, run) == []


def test_what_the_run_did_not_make_or_has_no_newer_result_of_is_left_alone(tmp_path: Path) -> None:
    config, run = make_config(tmp_path), tmp_path / "run"
    for name in ("pretrain", "dataset"):
        write_result(run / name, name, config)
    write_result(run / "finetune", "finetune", config, finished=False)
    write_result(run / "finetune.stale-1", "finetune", config)  # the only finished one
    write_result(run / "tokenizer.stale-1", "tokenizer", config)  # there is no other
    write_result(run / "pretrain.stale-1", "finetune", config)  # put there by somebody
    write_result(run / "pretrain.stale-1-mine", "pretrain", config)
    write_result(run / "pretrain.stale-", "pretrain", config)
    write_result(run / "pretrain.corrupt-1", "pretrain", config)
    write_result(run / "other.stale-1", "pretrain", config)
    (run / "pretrain.stale-2").mkdir()
    (run / "pretrain.stale-2" / "notes.txt").write_text("mine")
    (run / "pretrain.stale-3").write_text("a file")
    (run / "pretrain.stale-4").mkdir()
    (run / "pretrain.stale-4" / "MANIFEST.json").write_text("{")
    write_result(tmp_path / "elsewhere", "pretrain", config)
    (run / "pretrain.stale-5").symlink_to(tmp_path / "elsewhere")
    before = listing(tmp_path)
    assert superseded_results(STAGES, config, run) == []
    assert delete_unused(STAGES, config, run) == []
    assert listing(tmp_path) == before


def test_of_a_place_that_two_runs_use_each_deletes_its_own_results_alone(tmp_path: Path) -> None:
    shared = {"training": {"output_dir": str(tmp_path / "models")}}
    mine = make_config(tmp_path, **shared)
    other = mine.replace(run={"dir": str(tmp_path / "other")})
    write_result(tmp_path / "models", "pretrain", mine)
    write_result(tmp_path / "models.stale-1", "pretrain", other)
    write_result(tmp_path / "models.stale-2", "pretrain", mine)
    [found] = delete_unused(STAGES, mine, tmp_path / "run")
    assert found.place == tmp_path / "models.stale-2"
    assert (tmp_path / "models.stale-1" / "final").is_dir()


def test_a_run_that_was_moved_is_cleaned_where_it_is_now(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    write_result(tmp_path / "run" / "dataset", "dataset", config)
    write_result(tmp_path / "run" / "dataset.stale-1", "dataset", config)
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    write_result(tmp_path / "run" / "dataset", "dataset", config)
    write_result(tmp_path / "run" / "dataset.stale-1", "dataset", config)
    assert [one.place for one in delete_unused(STAGES, config, moved)] == [moved / "dataset.stale-1"]
    assert (tmp_path / "run" / "dataset.stale-1").is_dir()


def collect(tmp_path: Path, *, owns_cache: bool = True) -> dict[str, bytes]:
    out = tmp_path / "run" / "corpus"
    collector = DataCollector(out, cache_dir=tmp_path / "run" / ".cache", owns_cache=owns_cache)
    collector.collect_from_directory(tmp_path / "raw")
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_shards_of_a_collection_that_did_not_finish_are_listed_and_deleted(tmp_path: Path) -> None:
    raw, cache = tmp_path / "raw", tmp_path / "run" / ".cache"
    raw.mkdir()
    (raw / "a.txt").write_text(make_documents(1)[0])
    assert unfinished_collections(tmp_path / "run") == []
    before = collect(tmp_path)
    used = listing(cache)
    assert unfinished_collections(tmp_path / "run") == []
    (raw / "b.txt").write_text(make_documents(2)[1])
    collect(tmp_path, owns_cache=False)  # one that is stopped before it tidies up leaves the same
    [unused] = unfinished_collections(tmp_path / "run")
    new = [path for path in listing(cache) if path.is_file() and path not in used]
    assert sorted(unused.place / name for name in unused.shards) == new
    assert unused.num_bytes == sum(path.stat().st_size for path in new)
    assert delete_unused(STAGES, make_config(tmp_path), tmp_path / "run") == [unused]
    assert [path for path in listing(cache) if path.is_file()] == [path for path in used if path.is_file()]
    (raw / "b.txt").unlink()
    assert collect(tmp_path) == before


def test_a_list_of_used_shards_that_is_damaged_makes_none_unused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_text(make_documents(1)[0])
    collect(tmp_path)
    [used] = (tmp_path / "run" / ".cache").rglob("used.names")
    used.write_bytes(b"[]" + used.read_bytes()[2:])
    assert unfinished_collections(tmp_path / "run") == []


def test_nothing_is_deleted_while_the_run_is_at_work(tmp_path: Path) -> None:
    config, run = make_config(tmp_path), tmp_path / "run"
    for name in ("dataset", "dataset.stale-1"):
        write_result(run / name, "dataset", config)
    with lock(run / ".lock", held=run), pytest.raises(LockedError, match="run is in use by process"):
        delete_unused(STAGES, config, run)
    assert (run / "dataset.stale-1").is_dir()


def test_the_end_of_a_run_says_what_replaced_results_hold_and_how_to_free_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, run = make_config(tmp_path), tmp_path / "run"
    write_result(run / "dataset", "dataset", config)
    with caplog.at_level(logging.INFO):
        log_superseded(STAGES, config)
        assert caplog.text == ""
        write_result(run / "dataset.stale-1", "dataset", config, num_bytes=2_000_000)
        log_superseded(STAGES, config)
    [record] = caplog.records
    assert record.getMessage().startswith("results that newer ones replaced hold 2.0")
    assert f"`python scripts/inspect_data.py {run} clean` lists" in record.getMessage()


# --- the command ---


def inspect(*arguments: object) -> int:
    script = Path(__file__).resolve().parents[2] / "scripts" / "inspect_data.py"
    spec = importlib.util.spec_from_file_location("inspect_data_script", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    code: int = module.main([str(argument) for argument in arguments])
    return code


@pytest.mark.usefixtures("logging_as_before")
def test_the_command_lists_first_and_deletes_when_it_is_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = make_config(tmp_path), tmp_path / "run"
    run.mkdir()
    write_json(run / "settings.json", config.to_dict())
    assert inspect(run, "clean") == 0
    assert capsys.readouterr().out.startswith("nothing to delete")
    write_result(run / "dataset", "dataset", config)
    write_result(run / "dataset.stale-1", "dataset", config, num_bytes=1_000)
    write_result(run / "dataset.stale-2", "dataset", config, num_bytes=90_000)
    inspect(run, "clean")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("nothing uses these, ") and lines[-1] == "add --yes to delete them"
    assert [Path(line.split("  (")[0].split()[-1]).name for line in lines[1:3]] == [
        "dataset.stale-2",
        "dataset.stale-1",
    ]
    assert "(dataset, replaced by a newer result)" in lines[1]
    assert (run / "dataset.stale-1").is_dir()
    inspect(run, "clean", "--yes")
    deleted = capsys.readouterr().out.splitlines()
    assert deleted[0].startswith("deleted, ") and deleted[1:] == lines[1:3]
    assert sorted(path.name for path in run.glob("dataset*")) == ["dataset"]
    with pytest.raises(UsageError, match=r"raw: holds no settings\.json; name the directory of a run"):
        inspect(tmp_path / "raw", "clean")


@pytest.fixture
def logging_as_before() -> Any:
    """The script sets up logging for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
