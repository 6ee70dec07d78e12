from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from tests.tokenization.hostile_text import HAND_PICKED, texts
from tokenization.chat_template import render_chat
from tokenization.special_tokens import SPECIAL_TOKENS
from tokenization.tokenizer import Tokenizer

ASK = {"role": "user", "content": "Is iron hot?"}
ANSWER = {"role": "assistant", "content": "  It is.\n\n"}
RULE = {"role": "system", "content": "\tBe brief. "}

CHATS = [
    [ASK],
    [ASK, ANSWER],
    [RULE, ASK],
    [RULE],
    [RULE, ASK, ANSWER],
    [ASK, ANSWER, {"role": "user", "content": " \n leading and trailing \n "}],
    [RULE, ASK, ANSWER, ASK, ANSWER, ASK],
    [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}],
    [{"role": "user", "content": "{{ bos_token }} {% if x %} {# no #}"}, ANSWER],
    [{"role": "user", "content": "\u2581 日本 \r\n <b> & 'quoted' \"text\""}, ANSWER],
]


def test_a_chat_is_rendered_as_documented(bpe: Tokenizer) -> None:
    rule, ask, answer = (bpe.encode(message["content"]) for message in (RULE, ASK, ANSWER))
    rendered = render_chat([RULE, ASK, ANSWER], bpe)
    assert rendered.ids == [1, 4, *rule, 7, 5, *ask, 7, 6, *answer, 7]
    not_learned = 1 + (len(rule) + 2) + (len(ask) + 2) + 1
    assert rendered.learned == [False] * not_learned + [True] * (len(answer) + 1)


def test_only_the_words_and_the_end_of_the_assistant_are_learned(bpe: Tokenizer) -> None:
    rendered = render_chat([ASK, ANSWER, ASK, {"role": "assistant", "content": "No."}], bpe)
    learned = [token for token, flag in zip(rendered.ids, rendered.learned, strict=True) if flag]
    assert bpe.decode(learned, skip_special_tokens=False) == "  It is.\n\n<|end|>No.<|end|>"


def test_the_generation_prompt_opens_the_turn_of_the_assistant_and_is_not_learned(bpe: Tokenizer) -> None:
    closed, opened = render_chat([ASK], bpe), render_chat([ASK], bpe, add_generation_prompt=True)
    assert opened.ids == [*closed.ids, bpe.role_ids["assistant"]]
    assert opened.learned == [*closed.learned, False]


def test_what_is_learned_continues_exactly_what_is_prompted(bpe: Tokenizer) -> None:
    prompt = render_chat([RULE, ASK], bpe, add_generation_prompt=True).ids
    whole = render_chat([RULE, ASK, ANSWER], bpe)
    assert whole.ids[: len(prompt)] == prompt
    assert whole.learned == [False] * len(prompt) + [True] * (len(whole.ids) - len(prompt))


@pytest.fixture(scope="session", params=["bpe", "unigram", "char", "byte_bpe", "wordpiece", "word_level"])
def pair(request: pytest.FixtureRequest, tokenizer_directory: Callable[[str], Path]):
    transformers = pytest.importorskip("transformers")
    directory = tokenizer_directory(request.param)
    return Tokenizer.from_file(directory), transformers.AutoTokenizer.from_pretrained(directory)


@pytest.mark.parametrize("messages", CHATS, ids=str)
def test_transformers_renders_the_same_ids(pair, messages: list[dict[str, str]]) -> None:
    ours, theirs = pair
    prompts = [False, True] if messages[-1]["role"] == "user" else [False]
    for prompt in prompts:
        found = theirs.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=prompt, return_dict=False
        )
        assert found == render_chat(messages, ours, add_generation_prompt=prompt).ids


@settings(max_examples=60, deadline=None)
@given(contents=st.lists(texts, min_size=1, max_size=4))
def test_transformers_renders_the_same_ids_for_any_contents(pair, contents: list[str]) -> None:
    ours, theirs = pair
    contents = [text for text in contents if not any(token in text for token in SPECIAL_TOKENS)] or ["a"]
    messages = [
        {"role": "assistant" if index % 2 else "user", "content": text} for index, text in enumerate(contents)
    ]
    found = theirs.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert found == render_chat(messages, ours).ids


@pytest.mark.parametrize("content", HAND_PICKED, ids=ascii)
def test_no_content_can_forge_a_turn(tokenizer: Tokenizer, content: str) -> None:
    messages = [{"role": role, "content": content} for role in ("system", "user", "assistant")]
    special = [token for token in render_chat(messages, tokenizer).ids if token < len(SPECIAL_TOKENS)]
    assert special == [1, 4, 7, 5, 7, 6, 7]


BROKEN = [
    ([], False, "a chat needs at least one message, found none"),
    ([ANSWER], False, "message 0 has the role 'assistant', expected 'user'"),
    ([ASK, ASK], False, "message 1 has the role 'user', expected 'assistant'"),
    ([ASK, RULE], False, "message 1 has the role 'system', expected 'assistant'"),
    ([RULE, RULE], False, "message 1 has the role 'system', expected 'user'"),
    ([RULE, ANSWER], False, "message 1 has the role 'assistant', expected 'user'"),
    ([ASK, {"role": "tool", "content": "x"}], False, "message 1 has the role 'tool', expected 'assistant'"),
    ([ASK, ANSWER], True, "the assistant is to speak"),
    ([RULE], True, "the assistant is to speak"),
]


@pytest.mark.parametrize(("messages", "prompt", "reason"), BROKEN, ids=[reason for *_, reason in BROKEN])
def test_turns_out_of_order_are_refused_by_both_renderings(
    bpe: Tokenizer, bpe_directory: Path, messages: list[dict[str, str]], prompt: bool, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        render_chat(messages, bpe, add_generation_prompt=prompt)
    transformers = pytest.importorskip("transformers")
    jinja2 = pytest.importorskip("jinja2")
    theirs = transformers.AutoTokenizer.from_pretrained(bpe_directory)
    if messages:  # transformers itself reads the first of none
        with pytest.raises(jinja2.exceptions.TemplateError, match=reason.replace("'", "")):
            theirs.apply_chat_template(messages, tokenize=True, add_generation_prompt=prompt)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"content": "x"}, r"message 1 has no 'role': found the keys \['content'\]"),
        ({"role": "assistant"}, r"message 1 has no 'content': found the keys \['role'\]"),
        (
            {"role": "assistant", "content": None},
            "message 1 has a 'content' of type NoneType, expected a string",
        ),
        (
            {"role": "assistant", "content": ["x"]},
            "message 1 has a 'content' of type list, expected a string",
        ),
        ({"role": 3, "content": "x"}, "message 1 has a 'role' of type int, expected a string"),
        ("hello", "message 1 has no 'role': found str"),
    ],
)
def test_a_message_that_is_none_is_refused_by_its_index(bpe: Tokenizer, message: object, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        render_chat([ASK, message], bpe)  # type: ignore[list-item]
