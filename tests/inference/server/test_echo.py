"""Echo on /v1/completions: the prompt with its probabilities, against the plain forward and `ChatModel.score`."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from inference.answer_text import SaidToken
from inference.chat import ChatModel
from inference.continuous_batch import PREFILL_TOKENS
from inference.server.responses import Reply, Usage
from tests.inference.server.server_kit import RunningServer, running
from tests.inference.tiny_models import prompt_of

TEXT = "/v1/completions"
GREEDY = {"temperature": 0}


@pytest.fixture(scope="module")
def server(served_model: ChatModel) -> Iterator[RunningServer]:
    with running(served_model, max_running=4) as started:
        yield started


def choices(server: RunningServer, **body: Any) -> list[dict[str, Any]]:
    status, answer = server.json("POST", TEXT, {**GREEDY, **body})
    assert status == 200, answer
    return list(answer["choices"])


def forward(model: ChatModel, ids: list[int]) -> torch.Tensor:
    """(T, V): ln p of what follows each token, without a cache."""
    with torch.inference_mode():
        return model.engine.model(torch.tensor([ids])).float().log_softmax(-1)[0]


def test_the_probabilities_of_a_text_are_those_that_python_gives(
    server: RunningServer, served_model: ChatModel
) -> None:
    text = "the coal and the fire, naïve 日本語 👍🏽"
    score = served_model.score(text)
    (choice,) = choices(server, prompt=text, echo=True, logprobs=0, max_tokens=0)
    told = choice["logprobs"]
    assert (choice["text"], choice["finish_reason"]) == (text, "length")
    assert told["token_logprobs"][0] is None and told["top_logprobs"][0] is None
    assert told["tokens"][0] == "<s>"
    assert told["token_logprobs"][1:] == pytest.approx(list(score.log_probabilities), abs=1e-4)
    assert len(told["tokens"]) == len(told["text_offset"]) == len(score.ids) + 1
    for name, offset in zip(told["tokens"][1:], told["text_offset"][1:], strict=True):
        assert name.startswith("bytes:") or text[offset : offset + len(name)] == name
    assert told["text_offset"] == sorted(told["text_offset"]) and told["text_offset"][:2] == [0, 0]


def test_a_prompt_of_several_pieces_has_the_probabilities_of_the_plain_forward(
    server: RunningServer, served_model: ChatModel
) -> None:
    ids = prompt_of(3 * PREFILL_TOKENS - 5)
    (choice,) = choices(server, prompt=ids, echo=True, logprobs=3, max_tokens=0)
    told, expected = choice["logprobs"], forward(served_model, ids)
    assert len(told["tokens"]) == len(ids)
    for place in range(1, len(ids)):
        row = expected[place - 1]
        assert told["token_logprobs"][place] == pytest.approx(float(row[ids[place]]), abs=1e-4)
        best = max(told["top_logprobs"][place].values())
        if int(row.argmax()) < served_model.tokenizer.vocab_size:
            assert best == pytest.approx(float(row.max()), abs=1e-4)
        assert told["tokens"][place] in told["top_logprobs"][place]


def test_an_answer_with_its_prompt_is_the_prompt_and_the_answer(server: RunningServer) -> None:
    prompts = ["iron is", "the coal"]
    plain = choices(server, prompt=prompts, max_tokens=6, logprobs=2, n=2, seed=1, temperature=1)
    echoed = choices(server, prompt=prompts, max_tokens=6, logprobs=2, n=2, seed=1, temperature=1, echo=True)
    for index, (without, choice) in enumerate(zip(plain, echoed, strict=True)):
        prompt = prompts[index // 2]
        assert choice["text"] == prompt + without["text"]
        assert choice["finish_reason"] == without["finish_reason"]
        said, told = without["logprobs"], choice["logprobs"]
        begin = len(told["tokens"]) - len(said["tokens"])
        assert told["tokens"][begin:] == said["tokens"]
        assert told["token_logprobs"][begin:] == pytest.approx(said["token_logprobs"], abs=1e-5)
        assert told["text_offset"][begin:] == [len(prompt) + offset for offset in said["text_offset"]]
    (unscored,) = choices(server, prompt="iron is", max_tokens=6, seed=1, echo=True)
    assert unscored["logprobs"] is None and unscored["text"].startswith("iron is")
    _, answer = server.json("POST", TEXT, {"prompt": prompts, "echo": True, "max_tokens": 0})
    assert [choice["text"] for choice in answer["choices"]] == prompts
    assert answer["usage"]["completion_tokens"] == 0
    server.until_idle()


def test_a_stream_begins_with_the_prompt_and_says_the_same(server: RunningServer) -> None:
    body = {"prompt": ["iron is", "coal"], "max_tokens": 5, "logprobs": 1, "echo": True, **GREEDY}
    whole = choices(server, **body)
    events = server.events(TEXT, body)
    for choice in whole:
        mine = [event["choices"][0] for event in events if event["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in mine) == choice["text"]
        for key in ("tokens", "text_offset", "token_logprobs"):
            parts = [part["logprobs"][key] for part in mine if part["logprobs"]]
            values = [value for part in parts for value in part]
            assert values == pytest.approx(choice["logprobs"][key], abs=1e-5)


def test_a_stop_token_that_is_said_at_once_is_told_beside_the_prompt(
    server: RunningServer, served_model: ChatModel
) -> None:
    # lm-evaluation-harness takes the last entry for the token that was made, and would take the prompt's last for it.
    stops = list(served_model.stop_ids)
    prompts = [prompt_of(4, seed=seed) for seed in range(5000)]
    with torch.inference_mode():
        logits = served_model.engine.model(torch.tensor(prompts))[:, -1]
    likeliest = logits.masked_fill(~served_model.allowed, -torch.inf).argmax(-1).tolist()
    prompt, best = next(found for found in zip(prompts, likeliest, strict=True) if found[1] in stops)
    row = forward(served_model, prompt)[-1]
    (choice,) = choices(server, prompt=prompt, max_tokens=1, logprobs=1, echo=True)
    told = choice["logprobs"]
    assert choice["finish_reason"] == "stop"
    assert choice["text"] == served_model.tokenizer.decode(prompt)
    assert len(told["tokens"]) == len(told["token_logprobs"]) == len(prompt) + 1
    assert told["tokens"][-1] == served_model.tokenizer.pieces[best].text
    assert told["token_logprobs"][-1] == pytest.approx(float(row[best]), abs=1e-4)
    assert told["text_offset"][-1] == len(choice["text"])
    (plain,) = choices(server, prompt=prompt, max_tokens=1, logprobs=1)
    assert plain["logprobs"]["tokens"] == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            {"prompt": [1, 399], "echo": True},
            "prompt: no text has the token id 399; with echo, expected ids below 384",
        ),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens: expected 1 or more, found 0"),
        ({"prompt": "a", "max_tokens": 0, "echo": False}, "max_tokens: expected 1 or more, found 0"),
        ({"prompt": "a", "echo": 1}, "echo: expected true or false, found 1"),
    ],
    ids=str,
)
def test_an_echo_that_cannot_be_is_refused(server: RunningServer, body: dict[str, Any], reason: str) -> None:
    status, answer = server.json("POST", TEXT, body)
    assert (status, answer["error"]["message"]) == (400, reason)


def test_of_two_tokens_of_one_name_the_likelier_is_told(served_model: ChatModel) -> None:
    tokenizer = served_model.tokenizer
    reply = Reply("m", tokenizer, is_chat=False, with_logprobs=True, with_usage=False)
    byte = next(token for token in range(tokenizer.vocab_size) if tokenizer.pieces[token].text == "<0x65>")
    (piece,) = tokenizer.encode("e")
    assert byte != piece
    said = SaidToken(byte, -5.0, ((piece, -1.0), (byte, -5.0)), 0)
    answer = reply.whole([("e", [said], "length")], Usage(1, 1))
    assert answer["choices"][0]["logprobs"]["top_logprobs"] == [{"e": -1.0}]
