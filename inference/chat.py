"""Text in, text out: a trained model with its tokenizer, and a conversation with it. Knows no terminal and no network.

What is sent to the model is rendered by `tokenization.chat_template`, as in training.
"""

import contextlib
import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Unpack

import torch

from core.device_manager import DeviceManager
from core.errors import MismatchError
from inference.continuous_batch import FinishReason, Request
from inference.engine import Completion, Engine, Stream
from inference.model_directory import (
    PRETRAINING,
    find_intact_model,
    find_model,
    newest_run,
    trained_with_tokenizer,
)
from inference.prepared_weights import check_weights, fast_weights
from inference.sampling_settings import SamplingOptions, SamplingSettings
from inference.weight_formats import WeightFormat
from models.counting import count_parameters
from models.hf_layout import load_model
from models.transformer_lm import TransformerLM
from tokenization.chat_template import render_chat
from tokenization.tokenizer import StreamDecoder, Tokenizer

__all__ = ["ChatModel", "Conversation", "Message", "Prompt", "Reply", "find_model", "newest_run"]

logger = logging.getLogger(__name__)

Message = Mapping[str, str]
"""One turn of a conversation: {"role": "system" | "user" | "assistant", "content": text}."""

Prompt = str | Sequence[Message]
"""What is asked: a text to be continued, or the messages of a conversation that ends with the user's."""

ANSWER_SHARE = 0.25
"""Share of the context that a conversation leaves free for an answer that may be that long. Arbitrary."""

WINDOW_BATCHES = 8
"""Batches whose prompts are read from the source at a time. Arbitrary."""


@dataclass(frozen=True)
class Reply:
    """An answer: its text, why it ended ("stop" or "length"), and its length in tokens."""

    text: str
    finish_reason: FinishReason
    num_tokens: int


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
        answers_messages: bool = True,
        directory: Path | None = None,
    ) -> None:
        """
        Args:
            dtype: As `Engine`, which `weights` too is for.

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
        self.engine = Engine(model, device=device, dtype=dtype, weights=weights)
        self.tokenizer = tokenizer
        self.answers_messages = answers_messages
        self.stop_ids = (tokenizer.eos_id, tokenizer.end_id) if answers_messages else (tokenizer.eos_id,)
        self.allowed = torch.zeros(num_embeddings, dtype=torch.bool, device=device)
        self.allowed[: tokenizer.vocab_size] = torch.tensor(tokenizer.byte_lengths > 0)
        self.allowed[list(self.stop_ids)] = True
        self._warned = False

    @classmethod
    def load(
        cls, path: str | Path, *, device: str = "auto", weights: WeightFormat | Literal["auto"] | None = None
    ) -> "ChatModel":
        """The model that `path` stands for (see `find_model`): a run, a training stage or a model directory.

        Args:
            device: "auto" (CUDA, then MPS, then CPU), "cpu", "cuda", "cuda:1" or "mps".
            weights: The format to lay the weights out in for fast answers; "auto" = the fastest of those that lose
                nothing that can be measured (`fast_weights`). None = the model as it was trained, in float32, whose
                products are bfloat16 on a CUDA device that has it.

        Raises:
            DataError: there is no model, or a file of it is missing.
            CorruptArtifactError: a file of it was changed or cut off.
            MismatchError: tokenizer and model do not belong together.
            DeviceError: the device asked for is not there.
            ConfigError: the model or tokenizer is one that this project cannot represent, or this machine has no
                products for such weights.
        """
        device_manager = DeviceManager(device)
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
        is_cuda = device_manager.device.type == "cuda"
        return cls(
            load_model(directory, device=device_manager.device),
            tokenizer,
            device=device_manager.device,
            # On CPU "auto" would be timed, on each start anew; one token at a time gains nothing from it.
            dtype=device_manager.compute_dtype("auto" if is_cuda else "fp32"),
            weights=weights,
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

    def stream_chat(self, messages: Sequence[Message], **sampling: Unpack[SamplingOptions]) -> Stream[str]:
        """The answer of `chat`, piece by piece as it is made; a piece holds whole characters only.

        Raises:
            ConfigError, DataError: as `chat`; raised by the call, before the first piece is asked for.
        """
        return self._stream(messages, **sampling)

    def stream_text(self, prompt: str, **sampling: Unpack[SamplingOptions]) -> Stream[str]:
        """The continuation of `generate`, as `stream_chat` gives answers."""
        return self._stream(prompt, **sampling)

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
            completions = self.engine.complete(requests, allowed=self.allowed, batch_size=batch_size)
            for place, completion in completions:
                yield window[place][0], self._reply(completion)

    @staticmethod
    def _in_order(replies: Iterator[tuple[int, Reply]]) -> Iterator[Reply]:
        waiting: dict[int, Reply] = {}
        next_number = 0
        for number, reply in replies:
            waiting[number] = reply
            while next_number in waiting:
                yield waiting.pop(next_number)
                next_number += 1

    def _reply(self, completion: Completion) -> Reply:
        return Reply(self.tokenizer.decode(completion.ids), completion.finish_reason, len(completion.ids))

    def _stream(self, prompt: Prompt, **sampling: Unpack[SamplingOptions]) -> Stream[str]:
        tokens = self.engine.stream(self.prompt_ids(prompt), self.settings(**sampling), allowed=self.allowed)
        return Stream(self._decoded(tokens))

    def _decoded(self, tokens: Stream[int]) -> Generator[str, None, FinishReason | None]:
        decoder = StreamDecoder(self.tokenizer)
        with contextlib.closing(tokens):
            for token in tokens:
                if piece := decoder.push(token):
                    yield piece
        if rest := decoder.flush():
            yield rest
        return tokens.finish_reason


def _as_text(messages: Sequence[Message]) -> str:
    """The contents as one text: each message begins a line, but what the model said goes on where the user ended."""
    text = ""
    for message in messages:
        begins_line = text and message["role"] != "assistant"
        text += ("\n" if begins_line else "") + message["content"]
    return text


class Conversation:
    """A conversation that is remembered: `ask`, read the pieces, `ask` again.

    When the history no longer leaves room for an answer, its oldest turns (a question with its answer) are dropped
    until it does; the system message stays. This is logged as a warning and counted in `num_dropped_turns`.

    Attributes:
        messages: The history that the model is shown, the system message first.
        num_dropped_turns: Turns that it is no longer shown, since the beginning.
    """

    def __init__(self, chat_model: ChatModel, *, system: str | None = None) -> None:
        self.chat_model = chat_model
        self.messages: list[Message] = []
        self.num_dropped_turns = 0
        self.reset(system=system)

    def reset(self, *, system: str | None = None) -> None:
        """Begin anew, with this system message or none."""
        self.messages = [] if system is None else [{"role": "system", "content": system}]
        self.num_dropped_turns = 0

    def ask(self, text: str, **sampling: Unpack[SamplingOptions]) -> Stream[str]:
        """The answer to `text`, piece by piece; it is remembered as far as it was read.

        Closing it stops the model; if nothing was read by then, the question is forgotten too.

        Raises:
            ConfigError: a setting is unknown or out of range.
            DataError: the question alone leaves no room for an answer; the conversation is as before.
        """
        asked: list[Message] = [*self.messages, {"role": "user", "content": text}]
        messages, num_dropped = self._fit(asked, self.chat_model.settings(**sampling).max_tokens)
        pieces = self.chat_model.stream_chat(messages, **sampling)
        if num_dropped:
            logger.warning(
                "the conversation is longer than the model's context of %d tokens; the model no longer sees its "
                "oldest %s",
                self.chat_model.engine.context,
                "turn" if num_dropped == 1 else f"{num_dropped} turns",
            )
        return Stream(self._remembered(pieces, messages, num_dropped))

    def _remembered(
        self, pieces: Stream[str], messages: list[Message], num_dropped: int
    ) -> Generator[str, None, FinishReason | None]:
        read = ""
        try:
            with contextlib.closing(pieces):
                for piece in pieces:
                    read += piece
                    yield piece
        finally:
            if read or pieces.finish_reason is not None:
                self.messages = [*messages, {"role": "assistant", "content": read}]
                self.num_dropped_turns += num_dropped
        return pieces.finish_reason

    def _fit(self, messages: list[Message], max_tokens: int) -> tuple[list[Message], int]:
        """The newest messages that leave room for an answer, and how many turns had to go; never the question."""
        context = self.chat_model.engine.context
        limit = context - min(max_tokens, int(context * ANSWER_SHARE))
        first = 1 if messages[0]["role"] == "system" else 0
        num_dropped = 0
        while len(messages) > first + 1 and len(self.chat_model.render(messages)) > limit:
            messages = messages[:first] + messages[first + 2 :]
            num_dropped += 1
        return messages, num_dropped
