"""Ratings in a file: one whole line each, in the run, whatever was there before."""

import json
import os
from pathlib import Path

import pytest

from core.errors import NotWritableError
from inference.feedback import append_feedback, feedback_file, model_fingerprint
from tests.inference.tiny_models import save_tiny_model
from tokenization.tokenizer import Tokenizer

SAID = [{"role": "user", "content": "iron?"}, {"role": "assistant", "content": "Ore,\né."}]


def test_each_rating_is_one_line_also_after_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "feedback.jsonl"
    append_feedback(path, SAID, rating=1, correction=None, model="m")
    with path.open("ab") as file:
        file.write(b'{"messages": [{"ro')
    append_feedback(path, SAID, rating=-1, correction="Metal.", model="m")
    first, torn, last = path.read_text(encoding="utf-8").splitlines()
    assert torn == '{"messages": [{"ro'
    assert json.loads(first) | {"time": None} == {
        "messages": SAID, "rating": 1, "correction": None, "time": None, "model": "m"
    }  # fmt: skip
    assert json.loads(last)["correction"] == "Metal."


def test_it_is_kept_in_the_run_or_beside_a_model_that_belongs_to_none(tmp_path: Path) -> None:
    assert feedback_file(tmp_path / "run" / "finetune" / "final") == tmp_path / "run" / "feedback.jsonl"
    assert feedback_file(tmp_path / "run" / "pretrain" / "step_5") == tmp_path / "run" / "feedback.jsonl"
    assert feedback_file(tmp_path / "model") == tmp_path / "model" / "feedback.jsonl"


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="needs links that can be refused")
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    (tmp_path / "feedback.jsonl").symlink_to(tmp_path / "precious")
    with pytest.raises(NotWritableError, match=r"feedback\.jsonl: is a link, which is not followed"):
        append_feedback(tmp_path / "feedback.jsonl", SAID, rating=1, correction=None, model="m")
    assert (tmp_path / "precious").read_text() == ""


def test_models_with_other_weights_have_other_fingerprints(
    small_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    same, copy, other, bare = (tmp_path / name for name in ("same", "copy", "other", "bare"))
    for directory, seed, stage in ((same, 0, "x"), (copy, 0, "x"), (other, 1, "x"), (bare, 0, None)):
        save_tiny_model(directory, small_tokenizer, seed=seed, stage=stage)
    assert model_fingerprint(same) == model_fingerprint(copy)
    assert len({model_fingerprint(directory) for directory in (same, other, bare)}) == 3
