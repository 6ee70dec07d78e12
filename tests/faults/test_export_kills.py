"""An export that is killed, wherever it was, leaves nothing at its target; the next one leaves nothing of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inference.export.exporting import export_model
from tests.inference.export.exportable_models import saved_model
from tokenization.tokenizer import Tokenizer

pytestmark = pytest.mark.fault

REPOSITORY = Path(__file__).resolve().parents[2]

CHILD = """
import dataclasses, sys, time
from inference.export import exporting, formats

def halted(moment, function):
    def run(*arguments, **options):
        result = function(*arguments, **options)
        if sys.argv[3] == moment:
            print("now", flush=True)
            time.sleep(60)
        return result
    return run

entry = formats.EXPORTS["torchscript"]
formats.EXPORTS["torchscript"] = dataclasses.replace(entry, write=halted("written", entry.write))
exporting.in_fresh_process = halted("answered", lambda function, *arguments: function(*arguments))
exporting.write_json = halted("certified", exporting.write_json)
exporting.export_model(sys.argv[1], "torchscript", output=sys.argv[2])
"""


@pytest.mark.parametrize("moment", ["written", "answered", "certified"])
def test_a_kill_leaves_nothing_at_the_target_and_the_next_export_sweeps(
    moment: str, tmp_path: Path, small_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved_model(tmp_path / "model" / "final", small_tokenizer, "llama")
    place = tmp_path / "exports"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, source, place / "out", moment],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "now\n"
        child.kill()
    assert not (place / "out").exists()
    assert [path for path in place.iterdir() if ".tmp-" in path.name], (
        "what the kill left is told by its name"
    )
    monkeypatch.setattr(
        "inference.export.exporting.in_fresh_process", lambda function, *arguments: function(*arguments)
    )
    _, certificate = export_model(source, "torchscript", output=place / "out")
    assert certificate["proven"]
    assert sorted(path.name for path in place.iterdir()) == ["out"]
