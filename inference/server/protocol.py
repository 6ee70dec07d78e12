"""What clients may ask, as OpenAI's API spells it: bodies parsed and checked. Knows neither models nor connections.

A field that would be ignored against the caller's meaning is refused; one that changes nothing here is accepted.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from core.expectations import expectation
from inference.sampling_settings import SamplingOptions, SamplingSettings

MAX_CHOICES = 16
"""Most answers to one HTTP request, over all its prompts. Arbitrary; OpenAI takes 128."""

MAX_STOPS = 4
"""As OpenAI's."""

MAX_STOP_CHARACTERS = 256
"""A longer stop string would hold back as much of a stream. Arbitrary."""

NEVER_NULL = ("max_tokens", "temperature", "repetition_penalty", "stop")
"""Sampling settings of which null means the default; of the others it means no limit, as everywhere in this project."""

Body = TypeVar("Body", bound=BaseModel)


class ApiError(Exception):
    """An answer that is an error, in OpenAI's shape.

    Attributes:
        status: Of HTTP.
        param: Path of the field, such as "messages[0].content", or None.
        code: A word for programs, or None.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _joined_parts(value: Any) -> Any:
    """The text of a content that is a list of text parts."""
    if not isinstance(value, list):
        return value
    texts = []
    for index, part in enumerate(value):
        is_text = isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text"
        if not is_text or not isinstance(part["text"], str):
            raise ValueError(
                f'part {index}: expected {{"type": "text", "text": ...}}; this model reads text only'
            )
        texts.append(part["text"])
    return "".join(texts)


def _prompt_list(value: Any) -> Any:
    """Each of OpenAI's four forms as a list of prompts."""
    is_one = isinstance(value, str) or (isinstance(value, list) and value and _is_token(value[0]))
    prompts = [value] if is_one else value
    if not isinstance(prompts, list) or not prompts:
        raise ValueError("expected a text, a list of texts, a list of token ids, or a list of such lists")
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str) and not (isinstance(prompt, list) and all(map(_is_token, prompt))):
            raise ValueError(f"prompt {index}: expected a text or a list of token ids")
    return prompts


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _neutral(value: Any) -> Any:
    if value:
        raise ValueError("not supported; leave it out")
    return value


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StreamOptions(_Checked):
    """What a stream holds beside its pieces."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[bool | None, AfterValidator(_neutral)] = None


class _Sampled(_Checked):
    """What both kinds of completion share. The ranges of the sampling settings are those of `SamplingSettings`."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    n: Annotated[int | None, Field(ge=1, le=MAX_CHOICES)] = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]] | None,
        Field(max_length=MAX_STOPS),
        BeforeValidator(_as_list),
    ] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # Sent by clients by default, and without a meaning here.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "default"] | None = None
    # Values that change nothing.
    store: Annotated[bool | None, AfterValidator(_neutral)] = None
    frequency_penalty: Annotated[float | None, AfterValidator(_neutral)] = None
    presence_penalty: Annotated[float | None, AfterValidator(_neutral)] = None
    logit_bias: Annotated[dict[str, float] | None, AfterValidator(_neutral)] = None

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> "_Sampled":
        if self.stream_options is not None and not self.stream:
            raise ValueError('stream_options: only with "stream": true')
        return self

    @property
    def num_choices(self) -> int:
        """Answers to each prompt."""
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionBody(_Sampled):
    """The body of POST /v1/completions."""

    prompt: Annotated[list[Any], BeforeValidator(_prompt_list)]
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    echo: bool | None = None
    suffix: Annotated[str | None, AfterValidator(_neutral)] = None
    best_of: int | None = None

    @model_validator(mode="after")
    def _fits(self) -> "CompletionBody":
        if self.best_of not in (None, self.num_choices):
            raise ValueError(f"best_of: found {self.best_of}; only the value of n is supported")
        total = len(self.prompt) * self.num_choices
        if total > MAX_CHOICES:
            raise ValueError(
                f"prompt: {len(self.prompt)} prompts with {self.num_choices} answers each are {total}; at most "
                f"{MAX_CHOICES} in one request"
            )
        return self


class ChatMessage(_Checked):
    """One turn. What an answer of ours carries beside its text is null, so it can be sent back as it came."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_joined_parts)]
    name: None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any] | None, AfterValidator(_neutral)] = None
    tool_calls: Annotated[list[Any] | None, AfterValidator(_neutral)] = None

    @property
    def rendered(self) -> dict[str, str]:
        """The turn as models here know it: what OpenAI now calls developer is the system."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


class ResponseFormat(_Checked):
    """Text is the one there is."""

    type: Literal["text"]


class ChatBody(_Sampled):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    tools: Annotated[list[Any] | None, AfterValidator(_neutral)] = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _agrees(self) -> "ChatBody":
        both = (self.max_tokens, self.max_completion_tokens)
        if None not in both and both[0] != both[1]:
            raise ValueError(
                f"max_completion_tokens: found {both[1]} beside max_tokens {both[0]}; give one of them"
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError('top_logprobs: only with "logprobs": true')
        return self


class FeedbackBody(_Checked):
    """The body of POST /feedback: a conversation that ends with the answer that is rated."""

    messages: Annotated[list[ChatMessage], Field(min_length=2)]
    rating: Literal[1, -1]
    correction: str | None = None


def parse(kind: type[Body], body: bytes) -> Body:
    """The body, checked.

    Raises:
        ApiError: 400; it is no JSON, or a field is unknown or wrong. The message begins with the field's path.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise explain(error) from None


def echoes(body: ChatBody | CompletionBody) -> bool:
    """Whether answers begin with their prompt."""
    return isinstance(body, CompletionBody) and bool(body.echo)


def only_echoes(body: ChatBody | CompletionBody) -> bool:
    """Whether nothing follows the prompt, which OpenAI spells as an answer of no tokens."""
    return echoes(body) and body.max_tokens == 0


def num_logprobs(body: ChatBody | CompletionBody) -> int | None:
    """Likeliest tokens to report beside each chosen one; None = report nothing."""
    if isinstance(body, CompletionBody):
        return body.logprobs
    return (body.top_logprobs or 0) if body.logprobs else None


def sampling_settings(
    body: ChatBody | CompletionBody, defaults: Mapping[str, Any], stop_ids: tuple[int, ...]
) -> SamplingSettings:
    """The settings of an answer: those that were sent, over `defaults`.

    Raises:
        ApiError: 400; one is out of range.
    """
    sent = {
        name: getattr(body, name) for name in body.model_fields_set & SamplingOptions.__annotations__.keys()
    }
    sent = {name: value for name, value in sent.items() if value is not None or name not in NEVER_NULL}
    if only_echoes(body):
        del sent["max_tokens"]
    if body.stop is not None:
        sent["stop"] = tuple(body.stop)
    if isinstance(body, ChatBody) and body.max_completion_tokens is not None:
        sent["max_tokens"] = body.max_completion_tokens
    try:
        return SamplingSettings.model_validate(
            {**defaults, **sent, "num_logprobs": num_logprobs(body), "stop_ids": stop_ids}
        )
    except ValidationError as error:
        raise explain(error) from None


def explain(error: ValidationError) -> ApiError:
    """The first mistake, its field and what was found there."""
    first = error.errors(include_url=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    message = (
        first["msg"].removeprefix("Value error, ") if first["type"] == "value_error" else expectation(first)
    )
    if not path:
        # Written by the model's own validators, which begin with the field, or about the body as a whole.
        named = first["type"] == "value_error"
        path = message.partition(":")[0] if named else ""
        return ApiError(400, message if named else f"the body: {message}", param=path or None)
    if first["type"] == "missing":
        message = "is missing"
    elif first["type"] == "extra_forbidden":
        message = "no such field; take it out"
    elif first["type"] != "value_error":
        message = f"{message}, found {json.dumps(first['input'], ensure_ascii=False, default=str):.80}"
    return ApiError(400, f"{path}: {message}", param=path)
