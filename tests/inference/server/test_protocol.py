"""Bodies: what is accepted, and that what is refused is named by its path."""

import json
from typing import Any

import pytest

from inference.sampling_settings import SamplingSettings
from inference.server.protocol import ApiError, ChatBody, CompletionBody, parse, sampling_settings

USER = {"role": "user", "content": "iron?"}


def refusal(kind: Any, body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(kind, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("fields", "param", "reason"),
    [
        ({"messages": []}, "messages", r"expected a list of 1 or more, found \[\]"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].role",
            "'system', 'developer', 'user'",
        ),
        ({"messages": [USER, {"role": "user"}]}, "messages[1].content", "is missing"),
        ({"messages": [{**USER, "name": "x"}]}, "messages[0].name", 'expected null, found "x"'),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
            "part 0: .*text",
        ),
        ({"messages": "iron?"}, "messages", 'expected a list, found "iron'),
        ({"temperatur": 1}, "temperatur", "no such field"),
        ({"temperature": "1"}, "temperature", 'expected a number, found "1"'),
        ({"n": 1_000_000_000}, "n", "expected 16 or less, found 1000000000"),
        ({"n": True}, "n", "expected a whole number, found true"),
        ({"stop": ["a"] * 100_000}, "stop", "expected a list of 4 or fewer, found"),
        ({"stop": ["a", ""]}, "stop[1]", 'expected a text of 1 or more characters, found ""'),
        ({"stream_options": {"include_usage": True}}, "stream_options", 'only with "stream": true'),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "no such field"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "not supported"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "not supported"),
        ({"tools": [{"type": "function"}]}, "tools", "not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format.type", "'text'"),
        ({"store": True}, "store", "not supported"),
        ({"top_logprobs": 2}, "top_logprobs", 'only with "logprobs": true'),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "expected 20 or less"),
        (
            {"max_tokens": 5, "max_completion_tokens": 6},
            "max_completion_tokens",
            "found 6 beside max_tokens 5",
        ),
    ],
    ids=str,
)
def test_a_field_that_is_wrong_is_named_by_its_path(fields: dict[str, Any], param: str, reason: str) -> None:
    error = refusal(ChatBody, {"messages": [USER], **fields})
    assert error.param == param
    assert str(error).startswith(f"{param}: ")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(str(error))


@pytest.mark.parametrize(
    ("fields", "param", "reason"),
    [
        ({"prompt": []}, "prompt", "a list of texts, a list of token ids"),
        ({"prompt": ["a", 1]}, "prompt", "prompt 1: expected a text or a list of token ids"),
        ({"prompt": [1.5]}, "prompt", "prompt 0"),
        ({"prompt": None}, "prompt", "a list of texts"),
        ({"prompt": ["a"] * 9, "n": 2}, "prompt", "9 prompts with 2 answers each are 18; at most 16"),
        ({"prompt": "a", "best_of": 2}, "best_of", "found 2; only the value of n"),
        ({"prompt": "a", "suffix": "b"}, "suffix", "not supported"),
    ],
    ids=str,
)
def test_a_completion_that_is_wrong_is_named_by_its_path(
    fields: dict[str, Any], param: str, reason: str
) -> None:
    error = refusal(CompletionBody, fields)
    assert error.param == param
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(str(error))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[]", "expected an object"),
        (b'{"prompt": "\\ud800"}', "Invalid JSON"),
        (b'{"prompt": ' + b"[" * 100_000, "Invalid JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_body_that_is_no_object_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    assert reason in str(refusal(CompletionBody, body))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("temperature", -1, "expected 0 or more"),
        ("top_p", 0, "expected more than 0"),
        ("top_k", 0, "expected 1 or more"),
        ("min_p", 1.5, "expected 1 or less"),
        ("repetition_penalty", 0, "expected more than 0"),
        ("seed", -1, "expected 0 or more"),
        ("max_tokens", 0, "expected 1 or more"),
    ],
)
def test_a_sampling_setting_out_of_range_is_named(name: str, value: float, reason: str) -> None:
    body = parse(ChatBody, json.dumps({"messages": [USER], name: value}).encode())
    with pytest.raises(ApiError, match=f"{name}: .*{reason}.*, found {value}") as caught:
        sampling_settings(body, {}, (2,))
    assert (caught.value.status, caught.value.param) == (400, name)


def test_numbers_that_are_none_are_refused() -> None:
    for number in ("NaN", "Infinity", "-Infinity"):
        error = refusal(CompletionBody, f'{{"prompt": "a", "temperature": {number}}}'.encode())
        assert error.param == "temperature"


def test_what_clients_send_by_default_is_accepted_and_changes_nothing() -> None:
    plain = parse(ChatBody, json.dumps({"messages": [USER]}).encode())
    more = {
        "user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "n": 1, "stream": False,
        "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "tools": [], "tool_choice": "auto",
        "response_format": {"type": "text"}, "stop": None, "temperature": None, "max_tokens": None,
    }  # fmt: skip
    full = parse(ChatBody, json.dumps({"messages": [USER], **more}).encode())
    assert sampling_settings(full, {"temperature": 0.5}, ()) == sampling_settings(
        plain, {"temperature": 0.5}, ()
    )


def test_an_answer_of_ours_can_be_sent_back_as_it_came() -> None:
    answer = {"role": "assistant", "content": "Ore.", "refusal": None, "annotations": [], "audio": None,
              "function_call": None, "tool_calls": None}  # fmt: skip
    body = parse(ChatBody, json.dumps({"messages": [USER, answer, USER]}).encode())
    assert [message.rendered["role"] for message in body.messages] == ["user", "assistant", "user"]


def test_parts_of_a_text_are_joined_and_a_developer_is_the_system() -> None:
    parts = [{"type": "text", "text": "ir"}, {"type": "text", "text": "on?"}]
    messages = [{"role": "developer", "content": "Be short."}, {"role": "user", "content": parts}]
    body = parse(ChatBody, json.dumps({"messages": messages}).encode())
    assert [message.rendered for message in body.messages] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "iron?"},
    ]


def test_sent_settings_come_before_the_defaults_of_the_server() -> None:
    body = parse(
        ChatBody, json.dumps({"messages": [USER], "top_k": None, "max_completion_tokens": 7}).encode()
    )
    settings = sampling_settings(body, {"top_k": 5, "temperature": 0.3, "max_tokens": 9}, (2,))
    assert settings == SamplingSettings(top_k=None, temperature=0.3, max_tokens=7, stop_ids=(2,))
