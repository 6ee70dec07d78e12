"""Damaged rows are made again file by file, and only where they come out as they were."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import CorruptArtifactError, DataError, LockedError, StaleArtifactError
from core.files import lock
from core.stage import Selection
from data_processing.rows.token_rows import TokenRows
from pipeline.repairing import repair_rows
from pipeline.run import resolve_config, train_llm_from_scratch
from pipeline.stages import line
from tests.line_kit import REPOSITORY, settings, write_inputs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("line")
    write_inputs(root)
    config = resolve_config(settings(root))
    train_llm_from_scratch(config, selection=Selection(until="dataset"))
    train_llm_from_scratch(config, selection=Selection(only="instructions"))
    return root


def repair(root: Path) -> list[str]:
    repaired = repair_rows(line(), resolve_config(settings(root)), root / "run")
    return sorted(path.relative_to(root / "run").as_posix() for path in repaired)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def contents(root: Path) -> dict[Path, tuple[bytes, int, int]]:
    return {
        path: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
        for name in ("dataset", "instructions")
        for path in (root / "run" / name).rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize(
    "names",
    [
        ["dataset/train/data-00000.arrow"],
        ["dataset/validation/data-00000.arrow", "dataset/dataset_report.json"],
        ["instructions/train/data-00000.arrow"],
    ],
)
def test_damaged_files_come_out_as_they_were_and_no_other_is_touched(
    made: Path, names: list[str], damage
) -> None:
    before = contents(made)
    places = [made / "run" / name for name in names]
    for place in places:
        damage(place)
    assert repair(made) == sorted(names)
    after = contents(made)
    assert {path: data for path, (data, *_) in after.items()} == {p: data for p, (data, *_) in before.items()}
    assert {p: kept for p, kept in after.items() if p not in places} == {
        p: kept for p, kept in before.items() if p not in places
    }
    TokenRows(made / "run" / "dataset" / "train").verify()
    assert repair(made) == []


def test_the_command_repairs_what_verify_finds(made: Path) -> None:
    shard = made / "run" / "dataset" / "train" / "data-00000.arrow"
    flip(shard)
    command = [sys.executable, str(REPOSITORY / "scripts" / "inspect_data.py"), str(made / "run"), "verify"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 65
    assert f"{shard}: its content changed" in found.stderr
    assert "verify --repair makes this file alone" in found.stderr
    repaired = subprocess.run([*command, "--repair"], capture_output=True, text=True, check=True)
    assert f"{shard}: was damaged, made again" in repaired.stdout
    assert "all as written" in repaired.stdout


def test_what_is_made_of_other_things_now_is_refused_and_left_as_it_is(made: Path) -> None:
    shard = made / "run" / "dataset" / "train" / "data-00000.arrow"
    good = shard.read_bytes()
    cut(shard)
    damaged = shard.read_bytes()
    try:
        config = resolve_config(settings(made)).replace(data={"train_split": 0.7, "val_split": 0.2})
        with pytest.raises(DataError, match="what it was made of has changed since"):
            repair_rows(line(), config, made / "run")
        assert shard.read_bytes() == damaged
        for held in (made / "run" / ".lock", made / "run" / ".dataset.lock"):
            with lock(held, held=made / "run"), pytest.raises(LockedError):
                repair(made)
        corpus = made / "run" / "corpus" / "collected_texts.jsonl"
        text = corpus.read_bytes()
        flip(corpus)
        with pytest.raises(CorruptArtifactError, match=r"collected_texts\.jsonl: .* has to make both anew"):
            repair(made)
        corpus.write_bytes(text)
    finally:
        shard.write_bytes(good)


def test_rows_that_come_out_differently_never_replace_anything(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = made / "run" / "dataset" / "train" / "data-00000.arrow"
    good = shard.read_bytes()
    cut(shard)
    damaged = shard.read_bytes()
    monkeypatch.setattr("data_processing.rows.row_writer.BATCH_BYTES", 256)
    try:
        with pytest.raises(CorruptArtifactError, match="came out with another content"):
            repair(made)
        assert shard.read_bytes() == damaged
        assert not list((made / "run").glob(".dataset.tmp-*"))
    finally:
        shard.write_bytes(good)


def test_a_line_that_damaged_rows_stop_names_the_repair_and_goes_on_behind_it(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    values = settings(tmp_path, training={"total_steps": 2})
    trained = train_llm_from_scratch(values, selection=Selection(until="pretrain"))
    flip(tmp_path / "run" / "dataset" / "train" / "data-00000.arrow")
    command = f"`python scripts/inspect_data.py {tmp_path}/run verify --repair`"
    with pytest.raises(
        StaleArtifactError, match=rf"data-00000\.arrow: its content .*{command} makes what is"
    ):
        train_llm_from_scratch(values, selection=Selection(until="pretrain"))
    assert repair(tmp_path) == ["dataset/train/data-00000.arrow"]
    assert (
        train_llm_from_scratch(values, selection=Selection(until="pretrain")).artifacts == trained.artifacts
    )
