import pytest

from data_processing.rows.conversations import to_conversation
from data_processing.rows.instruction_dataset import build_instruction_dataset
from evaluation.answers import Answer, Question, evenly_spaced, first_sentence, questions_in, score

RECORDS = [
    {"instruction": f"What is number {n}?", "response": f"It is {n}. And it holds  {n} hammers."}
    for n in range(12)
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two.", "One."),
        ("  One\n line!  Two", "One line!"),
        ("Use os.path.join(a, b) here. Then", "Use os.path.join(a, b) here."),
        ("no end", "no end"),
        ("", ""),
    ],
)
def test_the_first_sentence_ends_where_a_reader_ends_it(text: str, expected: str) -> None:
    assert first_sentence(text) == expected


def test_questions_are_read_back_from_the_rows_as_they_were_asked(small_tokenizer) -> None:
    conversations = [to_conversation(record, source=str(i)) for i, record in enumerate(RECORDS)]
    with build_instruction_dataset(conversations, small_tokenizer, max_length=128, val_split=0.0) as dataset:
        questions = list(questions_in(dataset["train"], small_tokenizer))
    assert sorted((q.text, q.answer) for q in questions) == sorted(
        (record["instruction"], record["response"]) for record in RECORDS
    )
    assert {q.prompt_ids[-1] for q in questions} == {small_tokenizer.role_ids["assistant"]}


def test_an_answer_that_was_cut_off_is_not_asked_for(small_tokenizer) -> None:
    record = {"instruction": "Say much.", "response": "the furnace is hot and the iron is red " * 20}
    conversations = [to_conversation(r, source="1") for r in (record, RECORDS[0])]
    with build_instruction_dataset(conversations, small_tokenizer, max_length=64, val_split=0.0) as dataset:
        assert [q.text for q in questions_in(dataset["train"], small_tokenizer)] == ["What is number 0?"]


def test_a_right_first_sentence_counts_whatever_follows() -> None:
    question = Question((1,), "?", "It is 1. And more.")
    right = Answer(question, "It  is 1. Something else.", stopped=True)
    wrong = Answer(question, "It is 2. And more.", stopped=False)
    assert score([right, wrong, wrong, right]) == {
        "num_questions": 4,
        "right_first_sentence_share": 0.5,
        "stopped_share": 0.5,
    }
    assert score([])["right_first_sentence_share"] is None


def test_questions_are_spread_evenly_and_never_repeated() -> None:
    questions = [Question((n,), str(n), "") for n in range(10)]
    assert [q.text for q in evenly_spaced(questions, 3)] == ["0", "3", "6"]
    assert evenly_spaced(questions, 99) == questions
