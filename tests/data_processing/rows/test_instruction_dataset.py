import itertools
import json
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from data_processing.document import Dropped
from data_processing.rows.conversations import Conversation, read_conversations
from data_processing.rows.instruction_dataset import build_instruction_dataset
from data_processing.rows.packing import IGNORED
from data_processing.rows.split_assignment import SplitAssignment
from data_processing.rows.token_dataset import TokenDataset, save_dataset
from data_processing.rows.token_rows import TokenRows
from tests.data_processing.tiny_tokenizer import generated_texts, tiny_tokenizer
from tokenization.tokenizer import Tokenizer

END = Tokenizer.end_id


def conversation(
    *texts: str, source: str = "x:1", topic: str | None = None, system: str | None = None
) -> Conversation:
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return Conversation(messages, source, topic)


def some_conversations(number: int) -> list[Conversation]:
    texts = generated_texts(2 * number, seed=5)
    return [
        conversation(texts[2 * n][:60], texts[2 * n + 1][:90], source=f"x:{n + 1}") for n in range(number)
    ]


def learned_answers(rows: TokenRows) -> list[str]:
    """What the labels spell, one text for each answer, with the token that ends it."""
    answers = []
    for index in range(len(rows)):
        run: list[int] = []
        for label in rows[index]["labels"].tolist():
            if label != IGNORED:
                run.append(label)
            if run and label in (IGNORED, END):
                answers.append(tiny_tokenizer().decode(run, skip_special_tokens=False))
                run = []
        assert not run
    return answers


def test_what_is_learned_is_exactly_each_answer_and_its_end():
    conversations = some_conversations(60)
    dataset = build_instruction_dataset(conversations, tiny_tokenizer(), max_length=128, val_split=0.2)
    assert list(dataset) == ["train", "validation"]
    found = [answer for rows in dataset.values() for answer in learned_answers(rows)]
    assert sorted(found) == sorted(item.messages[1]["content"] + "<|end|>" for item in conversations)


def test_every_turn_of_the_assistant_is_learned_and_nothing_of_system_or_user():
    item = conversation("one?", "first answer", "two?", "second answer", system="be kind")
    dataset = build_instruction_dataset([item], tiny_tokenizer(), max_length=128, val_split=0.0)
    assert learned_answers(dataset["train"]) == ["first answer<|end|>", "second answer<|end|>"]


def test_an_answer_that_spells_control_tokens_is_learned_as_text():
    item = conversation("what ends a turn?", "It is <|end|> and then </s>.")
    dataset = build_instruction_dataset([item], tiny_tokenizer(), max_length=128, val_split=0.0)
    assert learned_answers(dataset["train"]) == ["It is <|end|> and then </s>.<|end|>"]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.text("ab c", min_size=1, max_size=20), st.text("xy z", min_size=1, max_size=40)),
        max_size=15,
    ),
    st.integers(8, 40),
    st.sampled_from(["split", "truncate", "drop"]),
)
def test_every_record_is_kept_or_counted_as_dropped(pairs, max_length, long_records):
    items: list[Conversation | Dropped] = [conversation(question, answer) for question, answer in pairs]
    items.append(Dropped("x:9", "missing_keys", "found nothing"))
    items.append(conversation("q", "a"))
    dataset = build_instruction_dataset(
        items, tiny_tokenizer(), max_length=max_length, val_split=0.3, long_records=long_records
    )
    report = dataset.report
    assert report["records"] == len(items)
    assert report["records"] == report["conversations"] + sum(report["dropped"].values())
    assert report["dropped"]["missing_keys"] == 1
    assert report["conversations"] == sum(split["documents"] for split in report["splits"].values())
    starts = sum(len(rows.document_starts(index)) for rows in dataset.values() for index in range(len(rows)))
    assert starts == report["conversations"]  # none is split over rows
    for rows in dataset.values():
        learned = [int((rows[index]["labels"] != IGNORED).sum()) for index in range(len(rows))]
        assert sum(learned) == rows.metadata.targets
        assert min(learned) > 0  # so no loss is ever 0 / 0


def test_a_conversation_longer_than_a_row_is_cut_at_its_end_or_dropped():
    items = [conversation("short?", "yes", source="x:1"), conversation("long?", "word " * 80, source="x:2")]
    cut = build_instruction_dataset(
        items, tiny_tokenizer(), max_length=32, val_split=0.0, long_records="truncate"
    )
    assert cut.report["truncated"] == 1
    assert cut.report["dropped"] == {}
    texts = [tiny_tokenizer().decode(cut["train"].tokens(index)) for index in range(len(cut["train"]))]
    assert any("long?word word" in text for text in texts)
    dropped = build_instruction_dataset(
        items, tiny_tokenizer(), max_length=32, val_split=0.0, long_records="drop"
    )
    assert dropped.report["truncated"] == 0
    assert dropped.report["dropped"] == {"too_long": 1}
    sample = dropped.report["dropped_samples"]["too_long"][0]
    assert sample["source"] == "x:2"
    assert sample["detail"].endswith("tokens, a row has 32")
    assert learned_answers(dropped["train"]) == ["yes<|end|>"]


TURNS = ["one?", "first " * 6, "two?", "second " * 6, "three?", "third " * 6, "four?", "fourth " * 6]


def spelled(rows: TokenRows) -> list[str]:
    """Each document of a split as text, control tokens included, without padding."""
    texts = []
    for index in range(len(rows)):
        bounds = [*rows.document_starts(index), len(rows.tokens(index))]
        spans = [rows.tokens(index)[begin:end].tolist() for begin, end in itertools.pairwise(bounds)]
        texts += [tiny_tokenizer().decode(ids, skip_special_tokens=False) for ids in spans]
    return [text.replace("<pad>", "") for text in texts]


def test_a_long_conversation_becomes_pieces_of_whole_exchanges_each_with_the_system_message():
    whole = build_instruction_dataset(
        [conversation(*TURNS, system="be kind")], tiny_tokenizer(), max_length=400, val_split=0.0
    )
    dataset = build_instruction_dataset(
        [conversation(*TURNS, system="be kind"), conversation("short?", "yes")],
        tiny_tokenizer(),
        max_length=100,
        val_split=0.0,
    )
    counts = {
        name: dataset.report[name] for name in ("records", "conversations", "split", "truncated", "dropped")
    }
    assert counts == {"records": 2, "conversations": 2, "split": 1, "truncated": 0, "dropped": {}}
    pieces = [text for text in spelled(dataset["train"]) if "short" not in text]
    assert len(pieces) == 1 + dataset.report["more_pieces"] > 1
    head = "<s><|system|>be kind<|end|>"
    assert all(text.startswith(head + "<|user|>") and text.endswith("<|end|>") for text in pieces)
    assert "".join(text.removeprefix(head) for text in pieces) == spelled(whole["train"])[0].removeprefix(
        head
    )


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.text("ab c", min_size=1, max_size=30), min_size=2, max_size=12),
    st.integers(8, 40),
    st.sampled_from(["split", "truncate"]),
)
def test_no_conversation_ends_with_a_question_and_no_question_is_cut(turns, max_length, long_records):
    items = [conversation(*turns), conversation("q", "a")]
    dataset = build_instruction_dataset(
        items, tiny_tokenizer(), max_length=max_length, val_split=0.0, long_records=long_records
    )
    questions = {*turns[::2], "q"}
    for text in spelled(dataset["train"]):
        *before, last = text.split("<|assistant|>")
        assert last  # an answer, whole or cut
        assert before
        assert {part.split("<|user|>")[1].removesuffix("<|end|>") for part in before} <= questions


def test_a_weight_says_how_often_a_conversation_is_learned_and_none_is_validated_on_twice():
    items = [conversation(f"question {n}?", f"answer {n}", source=f"x:{n}") for n in range(200)]
    weighted = [item._replace(weight=2.5 if n < 100 else 0.5) for n, item in enumerate(items)]
    dataset = build_instruction_dataset(weighted, tiny_tokenizer(), max_length=64, val_split=0.2, seed=7)
    plain = build_instruction_dataset(items, tiny_tokenizer(), max_length=64, val_split=0.2, seed=7)
    learned, validated = (learned_answers(dataset[split]) for split in ("train", "validation"))
    assert set(learned) <= set(learned_answers(plain["train"]))
    assert set(validated) <= set(learned_answers(plain["validation"]))
    assert len(validated) == len(set(validated))
    often = {n: learned.count(f"answer {n}<|end|>") for n in range(200)}
    assert {often[n] for n in range(100)} == {0, 2, 3}  # 0: is in validation
    assert {often[n] for n in range(100, 200)} == {0, 1}
    report = dataset.report
    assert report["conversations"] + report["dropped"]["not_chosen"] == 200
    assert 30 <= report["dropped"]["not_chosen"] <= 70
    assert len(learned) + len(validated) == report["conversations"] + report["repeats"]


def test_a_conversation_whose_answer_is_cut_off_entirely_is_dropped_with_its_place():
    items = [conversation("word " * 80, "answer", source="x:7"), conversation("short?", "yes")]
    report = build_instruction_dataset(items, tiny_tokenizer(), max_length=32, val_split=0.0).report
    assert report["dropped"] == {"nothing_to_learn": 1}
    assert report["truncated"] == 0
    assert report["dropped_samples"]["nothing_to_learn"][0]["source"] == "x:7"


def test_questions_about_one_topic_are_in_one_split():
    items = [
        conversation(f"{question} {topic}?", "yes", topic=f"topic {topic}")
        for topic in range(40)
        for question in ("what is", "explain", "show")
    ]
    dataset = build_instruction_dataset(items, tiny_tokenizer(), max_length=64, val_split=0.3)
    topics = []
    for rows in dataset.values():
        texts = [tiny_tokenizer().decode(rows.tokens(index)) for index in range(len(rows))]
        topics.append({number for number in range(40) if any(f" {number}?" in text for text in texts)})
    assert not topics[0] & topics[1]
    assert topics[0] | topics[1] == set(range(40))
    assert 3 < len(topics[1]) < 25


def test_nothing_is_held_back_of_few_conversations_until_its_share_is_one_of_them(caplog):
    caplog.set_level(logging.INFO)
    items = [conversation(f"question {n}?", "yes", topic=f"t{n % 2}") for n in range(6)]
    dataset = build_instruction_dataset(items, tiny_tokenizer(), max_length=64, val_split=0.5)
    assert [rows.metadata.documents for rows in dataset.values()] == [3, 3]
    few = build_instruction_dataset(items, tiny_tokenizer(), max_length=64, val_split=0.05)
    assert {name: rows.metadata.documents for name, rows in few.items()} == {"train": 6}
    assert "the 6 conversations are about too few things to hold any back (val_split=0.05)" in caplog.text


def test_the_same_conversations_give_the_same_bytes():
    def fingerprints() -> list[str]:
        dataset = build_instruction_dataset(some_conversations(50), tiny_tokenizer(), max_length=128)
        return [rows.fingerprint for rows in dataset.values()]

    assert fingerprints() == fingerprints()


def test_the_saved_dataset_has_unshifted_labels_in_the_datasets_library(tmp_path):
    datasets = pytest.importorskip("datasets")
    dataset = build_instruction_dataset(
        some_conversations(30), tiny_tokenizer(), max_length=128, val_split=0.2
    )
    saved = save_dataset(dataset, tmp_path / "saved")
    loaded = datasets.load_from_disk(str(saved))
    for split, rows in TokenDataset(saved).items():
        theirs = loaded[split]
        assert theirs.features["labels"] == datasets.List(datasets.Value("int32"), length=128)
        for index, (ids, labels) in enumerate(zip(theirs["input_ids"], theirs["labels"], strict=True)):
            assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
            assert labels[1:] == rows[index]["labels"].tolist()[:-1]
    lines = save_dataset(dataset, tmp_path / "lines", format="jsonl") / "train.jsonl"
    first = json.loads(lines.read_text(encoding="utf-8").splitlines()[0])
    assert first["labels"] == loaded["train"]["labels"][0]
    assert first["text"].startswith("<s><|user|>")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_length": 7}, "max_length 7: expected at least 8 tokens"),
        ({"val_split": 1.0}, "val_split 1.0: expected 0 or more and below 1"),
        ({"val_split": -0.1}, "val_split -0.1: expected"),
        ({"long_records": "keep"}, "long_records 'keep': expected 'split', 'truncate' or 'drop'"),
    ],
)
def test_a_setting_out_of_range_is_named(options, reason):
    with pytest.raises(ConfigError, match=reason):
        build_instruction_dataset([], tiny_tokenizer(), **{"max_length": 64, **options})


def test_when_nothing_is_left_the_reasons_are_named():
    items = [
        conversation("word " * 80, "a", source="x:3"),
        Dropped("x:4", "missing_keys", "found the keys 'q'"),
    ]
    with pytest.raises(DataError) as caught:
        build_instruction_dataset(items, tiny_tokenizer(), max_length=16)
    message = str(caught.value)
    assert "none of the 2 instruction records can be used" in message
    assert "nothing_to_learn 1 (first: x:3: the first 16 of its" in message
    assert "missing_keys 1 (first: x:4: found the keys 'q')" in message


def test_messages_that_cannot_be_rendered_are_counted():
    wrong = Conversation([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}], "x:5")
    dataset = build_instruction_dataset([wrong, conversation("q?", "yes")], tiny_tokenizer(), max_length=64)
    assert dataset.report["dropped"] == {"bad_roles": 1}
    assert "message 0" in dataset.report["dropped_samples"]["bad_roles"][0]["detail"]


def test_a_file_name_that_is_not_utf8_does_not_stop_the_report():
    dropped = Dropped("caf\udce9.jsonl:1", "missing_keys", "found nothing")
    dataset = build_instruction_dataset([dropped, conversation("q?", "yes")], tiny_tokenizer(), max_length=64)
    assert dataset.report["dropped_samples"]["missing_keys"][0]["source"] == "caf\\udce9.jsonl:1"


real_data = pytest.mark.skipif("BLOOMERY_REAL_DATA" not in os.environ, reason="BLOOMERY_REAL_DATA is not set")


@real_data
@pytest.mark.parametrize("name", ["alpaca_style.json", "dolly_hhrlhf_1000.jsonl"])
def test_the_labels_of_real_records_spell_their_answers(name):
    path = Path(os.environ["BLOOMERY_REAL_DATA"]) / "instruction" / name
    conversations = [item for item in read_conversations(path) if isinstance(item, Conversation)]
    dataset = build_instruction_dataset(
        read_conversations(path), tiny_tokenizer(), max_length=1024, val_split=0.1, long_records="drop"
    )
    too_long = dataset.report["dropped"].get("too_long", 0)
    assert dataset.report["records"] == len(conversations)
    found = [answer for rows in dataset.values() for answer in learned_answers(rows)]
    expected = {item.messages[1]["content"] + "<|end|>" for item in conversations}
    assert len(found) == len(conversations) - too_long
    assert set(found) <= expected


def test_the_first_question_decides_the_split_where_there_is_no_topic():
    items = [conversation(f"Question {n}?", "yes") for n in range(50)]
    shares = {"train": 0.7, "validation": 0.3}
    expected = SplitAssignment(shares=shares, seed=3)
    splits = [split for split, _ in expected.assign((item.split_key, item) for item in items)]
    dataset = build_instruction_dataset(items, tiny_tokenizer(), max_length=64, val_split=0.3, seed=3)
    assert dataset["validation"].metadata.documents == splits.count("validation")
