import math
from pathlib import Path

import pytest

from evaluation import training_text
from evaluation.generation_quality import (
    MAX_TOKENS,
    SAMPLES_A_PROMPT,
    copies,
    distinct,
    evaluate_quality,
    personal_data,
    read_prompts,
    repeated_share,
    self_bleu,
)
from evaluation.run_places import DataPlaces, places_of
from evaluation.training_text import TrainingText
from inference.chat import ChatModel
from tests.inference.tiny_models import save_tiny_model, tiny_model
from tests.small_texts import make_documents

CORPUS = make_documents(60, seed=9)


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_tokenizer, small_tokenizer_directory) -> Path:
    """A run with rows of text, of which train holds nearly all."""
    import json

    from data_processing.dataset_builder import DatasetBuilder

    run = tmp_path_factory.mktemp("run")
    corpus = run / "corpus" / "collected_texts.jsonl"
    corpus.parent.mkdir()
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in CORPUS))
    builder = DatasetBuilder(small_tokenizer_directory, 64)
    with builder.build_from_jsonl(corpus, 1.0, 0.0, 0.0) as dataset:
        builder.save_dataset(dataset, run / "dataset")
    save_tiny_model(run / "pretrain" / "final", small_tokenizer, stage="pretraining")
    return run


@pytest.fixture
def training(run: Path, small_tokenizer) -> TrainingText:
    places = places_of(run / "pretrain" / "final")
    assert places is not None
    return TrainingText(places, small_tokenizer)


def test_variety_and_repetition_are_shares_of_n_grams() -> None:
    assert distinct(["a b a", "b a b"], 1) == 2 / 6
    assert distinct(["a b a", "b a b"], 2) == 2 / 4
    assert distinct(["a"], 2) is None
    assert repeated_share("a b c d a b c d a b c d", 4) == pytest.approx(1 - 4 / 9)
    assert repeated_share("one two three", 4) is None


def test_self_bleu_is_one_for_equal_samples_and_small_for_different_ones() -> None:
    assert self_bleu(["the iron is red and hot"] * 3) == pytest.approx(1)
    different = self_bleu(["the iron is red and hot", "a hammer lies beside some charcoal", "slag runs"])
    assert different is not None and different < 0.2
    assert self_bleu(["only one", ""]) is None


def test_self_bleu_is_the_geometric_mean_of_clipped_precisions() -> None:
    # 5 of 6 words, 4 of 5 pairs, 3 of 4 triples, 2 of 3 fours, either way; equally long.
    expected = math.exp(sum(map(math.log, (5 / 6, 4 / 5, 3 / 4, 2 / 3))) / 4)
    assert self_bleu(["a b c d e f", "a b c d e g"]) == pytest.approx(expected)


def test_a_copy_of_the_training_text_is_found_with_its_length_across_rows(training: TrainingText) -> None:
    words = " ".join(CORPUS[7].split()[5:45])
    mixed = (
        "nothing of this was ever read by anybody at all you see " + words + " and then something else again"
    )
    found = copies([words, mixed, "zyx " * 30, "too short"], training)
    assert found[0] == (40, 1.0)
    assert found[1][0] == 40
    assert 0 < found[1][1] < 1
    assert found[2] == (0, 0.0)
    assert found[3] == (0, None)


def test_the_rows_read_back_are_the_documents_that_were_trained_on(training: TrainingText) -> None:
    assert sorted(training.documents()) == sorted(CORPUS)
    assert len(training.sample_ids(640)) == 640


def test_of_a_very_long_text_stretches_are_searched_that_are_spread_over_it(
    training: TrainingText, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert training.searched_share == 1.0
    whole = len(training.rows[0])
    monkeypatch.setattr(training_text, "STRETCH", 4)
    monkeypatch.setattr(training_text, "MAX_TOKENS", 64 * (whole // 2))
    assert training.searched_share == pytest.approx(0.5, abs=0.05)
    found = list(training.documents())
    assert all(any(text in document for document in CORPUS) for text in found)
    assert len("".join(found)) == pytest.approx(len("".join(CORPUS)) / 2, rel=0.2)
    assert any(text in CORPUS[0] for text in found)
    assert training_text._stretches(100, most=12) == [range(4), range(33, 37), range(66, 70)]


def test_what_a_model_was_made_from_is_known_within_a_run_alone(tmp_path: Path) -> None:
    for name in ("dataset", "instructions"):
        (tmp_path / "run" / name / "train").mkdir(parents=True)
    run = tmp_path / "run"
    assert places_of(tmp_path / "model") is None
    assert places_of(run / "pretrain" / "final") == DataPlaces(run / "corpus", run / "dataset")
    tuned = DataPlaces(run / "corpus", run / "dataset", run / "instructions")
    assert places_of(run / "finetune" / "final") == tuned
    assert places_of(run / "preference" / "final") == tuned


def test_personal_data_is_counted_by_kind_in_samples() -> None:
    texts = ["write to anna.smith@example-mail.org now", "no data", "bob@firm.com and 10.20.30.40"]
    found = personal_data(texts)
    assert found["email"] == 2
    assert found["secret"] == 0
    assert set(found) == {"secret", "email", "card_number", "ip_address", "phone_number"}


def test_samples_follow_from_the_seed_and_are_counted(
    tiny_chat_model: ChatModel, training: TrainingText, small_tokenizer
) -> None:
    wide = ChatModel(tiny_model(max_position_embeddings=256), small_tokenizer, answers_messages=False)
    found = evaluate_quality(wide, training, seed=3)
    assert found["figures"]["num_samples"] == len(read_prompts()) * SAMPLES_A_PROMPT == len(found["samples"])
    assert 0 < found["figures"]["mean_tokens"] <= MAX_TOKENS
    assert found["samples"][0]["prompt"] == read_prompts()[0]["beginning"]
    assert found["samples"][0]["text"] != found["samples"][1]["text"]
    assert found["figures"]["longest_copy_words"] == 0
    assert evaluate_quality(wide, training, seed=3) == found
    unknown = evaluate_quality(wide, None, seed=3)
    assert "longest_copy_words" not in unknown["figures"]
    assert unknown["samples"][0]["text"] == found["samples"][0]["text"]


def test_prompts_that_leave_no_room_are_left_out_and_counted(small_tokenizer) -> None:
    narrow = ChatModel(tiny_model(max_position_embeddings=32), small_tokenizer, answers_messages=False)
    figures = evaluate_quality(narrow, None, seed=0)["figures"]
    assert figures["num_prompts_too_long"] > 0
    assert (
        figures["num_samples"] == (len(read_prompts()) - figures["num_prompts_too_long"]) * SAMPLES_A_PROMPT
    )
    tiny = ChatModel(tiny_model(max_position_embeddings=8), small_tokenizer, answers_messages=False)
    figures = evaluate_quality(tiny, None, seed=0)["figures"]
    assert (figures["num_samples"], figures["num_prompts_too_long"]) == (0, len(read_prompts()))
    assert figures["stopped_share"] is None


def test_a_model_that_answers_is_asked_the_questions(small_tokenizer) -> None:
    model = ChatModel(tiny_model(max_position_embeddings=256), small_tokenizer)
    assert evaluate_quality(model, None, seed=0)["samples"][0]["prompt"] == read_prompts()[0]["question"]
