"""Text in, text out: a trained model with its tokenizer. Knows no conversation, no terminal and no network.

What is sent to the model is rendered by `tokenization.chat_template`, as in training.
"""

import contextlib
import logging
import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Unpack

import torch

from core.device_manager import DeviceManager, compile_problem
from core.errors import ConfigError, DataError, MismatchError
from inference.answer_text import Answer
from inference.continuous_batch import Event, FinishReason, Request
from inference.engine import Engine, Stream
from inference.model_directory import (
    PRETRAINING,
    find_intact_model,
    find_model,
    newest_run,
    trained_with_tokenizer,
)
from inference.prepared_weights import cast_weights, check_weights, fast_weights
from inference.sampling_settings import SamplingOptions, SamplingSettings
from inference.weight_formats import WeightFormat
from models.counting import count_parameters
from models.hf_layout import load_model
from models.transformer_lm import TransformerLM
from tokenization.chat_template import render_chat
from tokenization.tokenizer import Tokenizer

__all__ = ["ChatModel", "Message", "Prompt", "Reply", "Score", "find_model", "newest_run"]

logger = logging.getLogger(__name__)

Message = Mapping[str, str]
"""One turn of a conversation: {"role": "system" | "user" | "assistant", "content": text}."""

Prompt = str | Sequence[Message]
"""What is asked: a text to be continued, or the messages of a conversation that ends with the user's."""

WINDOW_BATCHES = 8
"""Batches whose prompts are read from the source at a time. Arbitrary."""


@dataclass(frozen=True)
class Reply:
    """An answer: its text, why it ended ("stop" or "length"), and its length in tokens."""

    text: str
    finish_reason: FinishReason
    num_tokens: int


@dataclass(frozen=True)
class Score:
    """How well a model expects a text: its tokens, ln p of each after those before it, and -log2 p of it all a byte."""

    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    bits_per_byte: float


class ChatModel:
    """A model and its tokenizer. `load` makes one from a directory.

    A model that was only pretrained has not learned what a turn is. Asked for an answer, it continues the text of
    the messages, one a line; the first time, this is logged as a warning.

    Attributes:
        answers_messages: False for such a model.
        stop_ids: Tokens that end its text.
        allowed: (V,) bool, the tokens that it may say: text and `stop_ids`, but no other control token and no row
            of the embedding without a token.
        directory: Where it was loaded from, or None.
    """

    def __init__(
        self,
        model: TransformerLM,
        tokenizer: Tokenizer,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        weights: WeightFormat | None = None,
        compiled: bool = False,
        answers_messages: bool = True,
        directory: Path | None = None,
    ) -> None:
        """
        Args:
            dtype: As `Engine`, which `weights` and `compiled` too are for.

        Raises:
            MismatchError: the tokenizer has more tokens than the model has embeddings.
            ConfigError: this machine has no products for such weights.
        """
        self.directory = directory
        self._name = "the model" if directory is None else str(directory)
        num_embeddings = model.embedding.num_embeddings
        if tokenizer.vocab_size > num_embeddings:
            raise MismatchError(
                f"{self._name}: the tokenizer has {tokenizer.vocab_size} tokens, the model has embeddings "
                f"for {num_embeddings}; they do not belong together, use the tokenizer that it was trained with"
            )
        self.engine = Engine(model, device=device, dtype=dtype, weights=weights, compiled=compiled)
        self.tokenizer = tokenizer
        self.answers_messages = answers_messages
        self.stop_ids = (tokenizer.eos_id, tokenizer.end_id) if answers_messages else (tokenizer.eos_id,)
        self.allowed = torch.zeros(num_embeddings, dtype=torch.bool, device=device)
        self.allowed[: tokenizer.vocab_size] = torch.tensor(tokenizer.byte_lengths > 0)
        self.allowed[list(self.stop_ids)] = True
        self._warned = False

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        weights: WeightFormat | Literal["auto"] | None = None,
        compiled: bool = False,
    ) -> "ChatModel":
        """The model that `path` stands for (see `find_model`): a run, a training stage or a model directory.

        Args:
            device: "auto" (CUDA, then MPS, then CPU), "cpu", "cuda", "cuda:1" or "mps".
            weights: The format to lay the weights out in for fast answers; "auto" = the fastest of those that lose
                nothing that can be measured (`fast_weights`). None = the model as it was trained, in float32, whose
                products are bfloat16 on a CUDA device that has it; with "auto" its weights are cast to that once.
            compiled: Let torch.compile fuse the layers when a token is made; on CUDA, with weights as they are.

        Raises:
            DataError: there is no model, or a file of it is missing.
            CorruptArtifactError: a file of it was changed or cut off.
            MismatchError: tokenizer and model do not belong together.
            DeviceError: the device asked for is not there.
            ConfigError: the model or tokenizer is one that this project cannot represent, or this machine has no
                products for such weights, or does not compile.
        """
        device_manager = DeviceManager(device)
        if compiled:
            _check_compiler(device_manager.device, weights)
        is_cuda = device_manager.device.type == "cuda"
        # On CPU "auto" would be timed, on each start anew; one token at a time gains nothing from it.
        dtype = device_manager.compute_dtype("auto" if is_cuda else "fp32")
        cast = weights == "auto" and dtype != torch.float32
        if weights == "auto":
            weights = fast_weights(device_manager.device)
        elif weights is not None:
            check_weights(weights, device_manager.device)
        directory, manifest = find_intact_model(path)
        tokenizer = Tokenizer.from_file(directory)
        fingerprint = trained_with_tokenizer(directory, manifest)
        if fingerprint not in (None, tokenizer.fingerprint):
            raise MismatchError(
                f"{directory}: the model was trained with the tokenizer {str(fingerprint)[:12]}, the one beside it is "
                f"{tokenizer.fingerprint[:12]}; put back the tokenizer that it was trained with"
            )
        if not manifest:
            logger.info(
                "%s: nothing says how it was trained; it is taken for a model that answers", directory
            )
        model = load_model(directory, device=device_manager.device)
        if cast:
            cast_weights(model, dtype)
        return cls(
            model,
            tokenizer,
            device=device_manager.device,
            dtype=dtype,
            weights=weights,
            compiled=compiled,
            answers_messages=manifest.get("stage") != PRETRAINING,
            directory=directory,
        )

    @property
    def description(self) -> str:
        """One line: where it is from, what it is, how large it is, where it runs."""
        num_parameters = count_parameters(self.engine.model.config).total
        kind = "answers" if self.answers_messages else "pretrained only: continues text"
        precision = self.engine.weights or str(self.engine.dtype).removeprefix("torch.")
        return (
            f"{self._name} ({kind}; {num_parameters:,} parameters, context "
            f"{self.engine.context} tokens, {precision} on {self.engine.device})"
        )

    def settings(self, **sampling: Unpack[SamplingOptions]) -> SamplingSettings:
        """The settings with these values, and with the tokens that end this model's text.

        Raises:
            ConfigError: a setting is unknown or out of range.
        """
        return SamplingSettings.from_dict({"stop_ids": self.stop_ids, **sampling})

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The ids of a text to be continued, or of messages to be answered.

        Raises:
            DataError: a message is not what it should be, or the prompt fills the context.
        """
        ids = self.render(prompt)
        self.engine.check_prompt(ids)
        return ids

    def render(self, prompt: Prompt) -> list[int]:
        """The ids of a prompt of any length; otherwise as `prompt_ids`."""
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt, add_bos=True)
        # Rendered for a model without turns too: its messages are checked alike.
        ids = render_chat(prompt, self.tokenizer, add_generation_prompt=True).ids
        if self.answers_messages:
            return ids
        if not self._warned:
            logger.warning("%s: pretrained only; it continues the text instead of answering", self._name)
            self._warned = True
        return self.tokenizer.encode(_as_text(prompt), add_bos=True)

    def generate(self, prompt: str, **sampling: Unpack[SamplingOptions]) -> str:
        """How the model continues a text. Keywords are those of `SamplingOptions`.

        Raises:
            ConfigError: a setting is unknown or out of range.
            DataError: the prompt fills the context.

        >>> model = ChatModel.load("runs/mine")                                        # doctest: +SKIP
        >>> model.generate("import ", max_tokens=8, temperature=0)                     # doctest: +SKIP
        """
        return next(self.complete([prompt], **sampling)).text

    def chat(self, messages: Sequence[Message], **sampling: Unpack[SamplingOptions]) -> str:
        """The model's answer to a conversation, which is not shortened here (`Conversation` does that).

        Raises:
            ConfigError: a setting is unknown or out of range.
            DataError: a message is not what it should be, or they fill the context.
        """
        return next(self.complete([messages], **sampling)).text

    def stream(self, prompt: Prompt, **sampling: Unpack[SamplingOptions]) -> Stream[str]:
        """What `generate` or `chat` returns, piece by piece as it is made; a piece holds whole characters only.

        Raises:
            ConfigError, DataError: as they; raised by the call, before the first piece is asked for.
        """
        settings = self.settings(**sampling)
        tokens = self.engine.stream(self.prompt_ids(prompt), settings, allowed=self.allowed)
        return Stream(self._decoded(tokens, Answer(self.tokenizer, settings.stop)))

    def complete(
        self, prompts: Iterable[Prompt], *, batch_size: int = 32, **sampling: Unpack[SamplingOptions]
    ) -> Iterator[Reply]:
        """A reply to each prompt, in order; many prompts are read and answered a few batches at a time.

        With a seed, each reply depends on it and on the prompt's number in the list: equal prompts get different
        replies, and the same list the same ones.

        Raises:
            ConfigError: a setting is unknown or out of range; raised by the call.
            DataError: as `prompt_ids`, when the prompt's turn comes.
        """
        return self._in_order(self.replies(enumerate(prompts), batch_size=batch_size, **sampling))

    def replies(
        self,
        prompts: Iterable[tuple[int, Prompt]],
        *,
        batch_size: int = 32,
        **sampling: Unpack[SamplingOptions],
    ) -> Iterator[tuple[int, Reply]]:
        """A reply to each numbered prompt, with its number, in the order in which they are done.

        With a seed, a reply depends on it, on the prompt and on its number. Raises as `complete`.
        """
        return self._replies(iter(prompts), batch_size, self.settings(**sampling))

    def _replies(
        self, prompts: Iterator[tuple[int, Prompt]], batch_size: int, settings: SamplingSettings
    ) -> Iterator[tuple[int, Reply]]:
        while window := list(islice(prompts, WINDOW_BATCHES * batch_size)):
            requests = [
                Request(tuple(self.prompt_ids(prompt)), settings, number) for number, prompt in window
            ]
            for place, reply in self._answer(requests, settings.stop, batch_size):
                yield window[place][0], reply

    def _answer(
        self, requests: Sequence[Request], stop: Sequence[str], batch_size: int
    ) -> Iterator[tuple[int, Reply]]:
        """The place of each request in the list, and the reply to it."""
        answers = [Answer(self.tokenizer, stop) for _ in requests]
        texts = [""] * len(requests)

        def ends_with(place: int, event: Event) -> bool:
            texts[place] += answers[place].push(event).text
            return answers[place].finish_reason is not None

        for place, _ in self.engine.complete(
            requests, allowed=self.allowed, batch_size=batch_size, ends_with=ends_with
        ):
            reason = answers[place].finish_reason
            assert reason is not None, "it has ended"
            yield place, Reply(texts[place], reason, answers[place].num_tokens)

    @staticmethod
    def _in_order(replies: Iterator[tuple[int, Reply]]) -> Iterator[Reply]:
        waiting: dict[int, Reply] = {}
        next_number = 0
        for number, reply in replies:
            waiting[number] = reply
            while next_number in waiting:
                yield waiting.pop(next_number)
                next_number += 1

    def score(self, text: str) -> Score:
        """How well the model expects a text, with `<s>` before it. One that is longer than the context is read in
        windows that overlap by half, so that every token is expected from at least half a context before it.

        Raises:
            DataError: the text is empty, or no text (a lone surrogate).

        >>> ChatModel.load("runs/mine").score("import os").bits_per_byte               # doctest: +SKIP
        """
        if not text:
            raise DataError("the text to score is empty; give it a character at least")
        ids, context = self.tokenizer.encode(text, add_bos=True), self.engine.context
        found: list[float] = []
        start = 0
        while len(found) < len(ids) - 1:
            log_p = self.engine.log_probabilities(ids[start : start + context])
            found += log_p[len(found) - start :]
            start += context // 2
        num_bytes = len(text.encode())
        return Score(tuple(ids[1:]), tuple(found), -sum(found) / math.log(2) / num_bytes)

    @staticmethod
    def _decoded(tokens: Stream[int], answer: Answer) -> Generator[str, None, FinishReason | None]:
        with contextlib.closing(tokens):
            for token in tokens:
                if piece := answer.push(Event(0, token, None, (), None)).text:
                    yield piece
                if answer.finish_reason is not None:
                    return answer.finish_reason
        if rest := answer.push(Event(0, None, None, (), tokens.finish_reason)).text:
            yield rest
        return tokens.finish_reason


def _as_text(messages: Sequence[Message]) -> str:
    """The contents as one text: each message begins a line, but what the model said goes on where the user ended."""
    text = ""
    for message in messages:
        begins_line = text and message["role"] != "assistant"
        text += ("\n" if begins_line else "") + message["content"]
    return text


def _check_compiler(device: torch.device, weights: str | None) -> None:
    """Nothing, where layers can be compiled.

    Raises:
        ConfigError: they cannot.
    """
    if device.type != "cuda":
        raise ConfigError(
            f"compile: is for CUDA devices, and the model is on {device}; leave it out (there, the weights' format "
            "decides how long a token takes)"
        )
    if weights not in (None, "auto"):
        raise ConfigError(
            f"compile: is for weights as they were trained, and {weights} was asked for; leave out one of the two"
        )
    if (problem := compile_problem(device)) is not None:
        raise ConfigError(f"compile: torch.compile does not work here ({problem}); leave it out")
