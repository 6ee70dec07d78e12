"""A chat as token ids, with what is to be learned of it; the one rendering that training and inference use.

Knows nothing of where conversations come from or how a model answers them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import DataError
from tokenization.special_tokens import ROLE_TOKENS

if TYPE_CHECKING:
    from tokenization.tokenizer import Tokenizer


CHAT_TEMPLATE = """\
{%- if not messages -%}
    {{- raise_exception('a chat needs at least one message, found none') -}}
{%- endif -%}
{%- set shift = 1 if messages[0]['role'] == 'system' else 0 -%}
{{- bos_token -}}
{%- for message in messages -%}
    {%- if loop.index0 < shift -%}
        {%- set expected = 'system' -%}
    {%- else -%}
        {%- set expected = 'user' if (loop.index0 - shift) % 2 == 0 else 'assistant' -%}
    {%- endif -%}
    {%- if message['role'] != expected -%}
        {%- set found = 'message ' ~ loop.index0 ~ ' has the role ' ~ message['role'] -%}
        {{- raise_exception(found ~ ', expected ' ~ expected) -}}
    {%- endif -%}
    {{- '<|' ~ expected ~ '|>' ~ message['content'] ~ '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {%- if (messages | length - shift) % 2 == 0 -%}
        {{- raise_exception('the assistant is to speak, but the last message is not from the user') -}}
    {%- endif -%}
    {{- '<|assistant|>' -}}
{%- endif -%}
"""
"""The same rendering for transformers' `apply_chat_template` and for servers. It makes text, so contents that
spell a special token, such as "<|end|>", become that token there; `render_chat` keeps them text."""


@dataclass(frozen=True)
class RenderedChat:
    """The ids of a chat, and for each whether the model learns to say it: the assistant's words and their end."""

    ids: list[int]
    learned: list[bool]


def render_chat(
    messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, *, add_generation_prompt: bool = False
) -> RenderedChat:
    """`<s>`, then for each message its role token, its content, and `<|end|>`. Contents are not trimmed.

    Args:
        messages: Mappings with "role" and "content": at most one "system" message, at the beginning, then "user"
            and "assistant" in turn. Other keys are not rendered.
        add_generation_prompt: End with the token that lets the assistant speak.

    Raises:
        DataError: a role or a content is not what it should be; the message names its index.
    """
    _check(messages, add_generation_prompt)
    contents = tokenizer.encode_batch([message["content"] for message in messages], num_threads=1)
    ids = [tokenizer.bos_id]
    learned = [False]
    for message, content in zip(messages, contents, strict=True):
        is_answer = message["role"] == "assistant"
        ids += [tokenizer.role_ids[message["role"]], *content, tokenizer.end_id]
        learned += [False] + [is_answer] * (len(content) + 1)
    if add_generation_prompt:
        ids.append(tokenizer.role_ids["assistant"])
        learned.append(False)
    return RenderedChat(ids, learned)


def _check(messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool) -> None:
    if not messages:
        raise DataError("a chat needs at least one message, found none")
    expected = "system" if _key(messages, 0, "role") == "system" else "user"
    for index, message in enumerate(messages):
        role = _key(messages, index, "role")
        if role != expected:
            raise DataError(
                f"message {index} has the role {role!r}, expected {expected!r}: an optional system message "
                f"comes first, then user and assistant take turns (known roles: {', '.join(ROLE_TOKENS)})"
            )
        _key(messages, index, "content")
        expected = "assistant" if message["role"] == "user" else "user"
    if add_generation_prompt and expected != "assistant":
        raise DataError(
            f"the assistant is to speak after message {len(messages) - 1}, which is from {messages[-1]['role']!r}; "
            "expected the last message to be from 'user'"
        )


def _key(messages: Sequence[Mapping[str, Any]], index: int, key: str) -> str:
    message = messages[index]
    if not isinstance(message, Mapping) or key not in message:
        found = f"the keys {sorted(message)}" if isinstance(message, Mapping) else type(message).__name__
        raise DataError(
            f"message {index} has no {key!r}: found {found}, expected {{'role': ..., 'content': ...}}"
        )
    value = message[key]
    if not isinstance(value, str):
        raise DataError(f"message {index} has a {key!r} of type {type(value).__name__}, expected a string")
    return value
