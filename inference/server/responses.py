"""Answers as OpenAI's API spells them: whole ones and the pieces of a stream. Knows text and tokens, no network."""

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from inference.answer_text import SaidToken
from inference.continuous_batch import FinishReason
from tokenization.tokenizer import Tokenizer

Json = dict[str, Any]


@dataclass(frozen=True)
class Usage:
    """Numbers of tokens: of all prompts, each counted once, and of all answers."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def json(self) -> Json:
        """As it is sent."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


@dataclass(frozen=True)
class Reply:
    """What all pieces of the answer to one HTTP request share, and how they are written.

    Attributes:
        is_chat: Whether in the form of chat completions or of completions.
        with_logprobs: Whether log-probabilities were asked for.
        with_usage: Whether a stream ends with the numbers of tokens; its other pieces then have a null there.
    """

    model: str
    tokenizer: Tokenizer
    is_chat: bool
    with_logprobs: bool
    with_usage: bool
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: Iterable[tuple[str, Sequence[SaidToken], FinishReason]], usage: Usage) -> Json:
        """An answer that is not streamed, from text, tokens and reason of each choice."""
        listed = [
            self._choice(
                index,
                {"message": {"role": "assistant", "content": text, "refusal": None}}
                if self.is_chat
                else {"text": text},
                self._logprobs(tokens),
                finish_reason,
            )
            for index, (text, tokens, finish_reason) in enumerate(choices)
        ]
        return self._object(listed, is_piece=False) | {"usage": usage.json}

    def opening(self, index: int) -> Json | None:
        """The first piece of a choice, if its form has one: who speaks."""
        if not self.is_chat:
            return None
        return self._piece(self._choice(index, {"delta": {"role": "assistant", "content": ""}}, None, None))

    def piece(self, index: int, text: str, tokens: Sequence[SaidToken]) -> Json:
        """What a choice goes on with."""
        content: Json = {"delta": {"content": text}} if self.is_chat else {"text": text}
        return self._piece(self._choice(index, content, self._logprobs(tokens), None))

    def closing(self, index: int, finish_reason: FinishReason) -> Json:
        """The last piece of a choice."""
        content: Json = {"delta": {}} if self.is_chat else {"text": ""}
        return self._piece(self._choice(index, content, None, finish_reason))

    def usage(self, usage: Usage) -> Json:
        """The last piece of a stream that was to have it."""
        return self._object([], is_piece=True) | {"usage": usage.json}

    def _piece(self, choice: Json) -> Json:
        return self._object([choice], is_piece=True) | ({"usage": None} if self.with_usage else {})

    def _object(self, choices: list[Json], *, is_piece: bool) -> Json:
        kind = (
            ("chat.completion.chunk" if is_piece else "chat.completion")
            if self.is_chat
            else "text_completion"
        )
        prefix = "chatcmpl" if self.is_chat else "cmpl"
        return {
            "id": f"{prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def _choice(self, index: int, content: Json, logprobs: Json | None, finish_reason: str | None) -> Json:
        return {"index": index, **content, "logprobs": logprobs, "finish_reason": finish_reason}

    def _logprobs(self, tokens: Sequence[SaidToken]) -> Json | None:
        if not self.with_logprobs:
            return None
        if self.is_chat:
            content = [
                {
                    **self._token_logprob(said.token, said.logprob),
                    "top_logprobs": [self._token_logprob(*entry) for entry in self._likeliest(said)],
                }
                for said in tokens
            ]
            return {"content": content, "refusal": None}
        return {
            "tokens": [self._name(said.token) for said in tokens],
            "token_logprobs": [said.logprob for said in tokens],
            # Nothing expects the first token of a prompt.
            "top_logprobs": [None if said.logprob is None else self._by_name(said) for said in tokens],
            "text_offset": [said.offset for said in tokens],
        }

    def _by_name(self, said: SaidToken) -> dict[str, float]:
        """ln p of the likeliest tokens and of the chosen one; of several with the same name, the likeliest one's."""
        result: dict[str, float] = {}
        chosen = [] if said.logprob is None else [(said.token, said.logprob)]
        for token, logprob in [*self._likeliest(said), *chosen]:
            result.setdefault(self._name(token), logprob)
        return result

    def _likeliest(self, said: SaidToken) -> list[tuple[int, float]]:
        """The tokens beside a chosen one. A model may have more rows than there are tokens; those have no name."""
        return [entry for entry in said.top_logprobs if entry[0] < self.tokenizer.vocab_size]

    def _token_logprob(self, token: int, logprob: float | None) -> Json:
        return {"token": self._name(token), "logprob": logprob, "bytes": list(self._bytes(token))}

    def _name(self, token: int) -> str:
        """A token's text; of one that is no whole character its bytes, as OpenAI writes them."""
        data = self._bytes(token)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def _bytes(self, token: int) -> bytes:
        if not self.tokenizer.byte_lengths[token]:
            return self.tokenizer.decode([token], skip_special_tokens=False).encode()
        return self.tokenizer.token_bytes(token)
