"""A conversation that is remembered, and shortened when it outgrows the context. Knows no terminal and no network."""

import contextlib
import logging
from collections.abc import Generator, Sequence
from typing import Unpack

from core.errors import DataError
from inference.chat import ChatModel, Message
from inference.continuous_batch import FinishReason
from inference.engine import Stream
from inference.sampling_settings import SamplingOptions

logger = logging.getLogger(__name__)

ANSWER_SHARE = 0.25
"""Share of the context that a conversation leaves free for an answer that may be that long. Arbitrary."""


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
        return self._ask([*self.messages, {"role": "user", "content": text}], **sampling)

    def retry(self, **sampling: Unpack[SamplingOptions]) -> Stream[str]:
        """Another answer to the last question, in the place of the one that was given. Otherwise as `ask`.

        Raises:
            DataError: there is no answer yet.
        """
        self.last_answer()
        return self._ask(self.messages[:-1], **sampling)

    def last_answer(self) -> str:
        """What the model said last.

        Raises:
            DataError: it has said nothing.
        """
        if not self.messages or self.messages[-1]["role"] != "assistant":
            raise DataError("there is no answer yet; ask something first")
        return self.messages[-1]["content"]

    def correct(self, text: str) -> None:
        """Let the last answer have been `text`.

        Raises:
            DataError: there is no answer yet.
        """
        self.last_answer()
        self.messages = [*self.messages[:-1], {"role": "assistant", "content": text}]

    def load(self, messages: Sequence[Message]) -> None:
        """Go on from these messages instead, which end with an answer.

        Raises:
            DataError: a message is not what it should be, or the last one is no answer; the conversation is as before.
        """
        if not messages or messages[-1].get("role") != "assistant":
            raise DataError("expected messages of which the last is the assistant's answer")
        question = {"role": "user", "content": "?"}
        self.chat_model.render([*messages, question])  # finds what is wrong with one of them
        self.messages = [dict(message) for message in messages]
        self.num_dropped_turns = 0

    def _ask(self, asked: list[Message], **sampling: Unpack[SamplingOptions]) -> Stream[str]:
        messages, num_dropped = self._fit(asked, self.chat_model.settings(**sampling).max_tokens)
        pieces = self.chat_model.stream(messages, **sampling)
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
