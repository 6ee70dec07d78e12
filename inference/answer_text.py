"""The text of an answer while its tokens come: whole characters, and nothing of a stop string. Knows no network."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from inference.continuous_batch import Event, FinishReason
from tokenization.tokenizer import StreamDecoder, Tokenizer


@dataclass(frozen=True)
class SaidToken:
    """A token of an answer, what its event says of it, and where its text begins, in characters of the answer."""

    token: int
    logprob: float | None
    top_logprobs: tuple[tuple[int, float], ...]
    offset: int


@dataclass(frozen=True)
class Piece:
    """What can be shown since the last piece: text, and the tokens that are shown with it."""

    text: str
    tokens: tuple[SaidToken, ...]


class Answer:
    """An answer in the making. `push` its events; joined, the pieces are the text up to the first stop string.

    The first stop string is the one that is complete first, of several that end at the same character the longest.

    Attributes:
        finish_reason: None until it has ended.
        num_tokens: Tokens that were made for it, those of a stop string included.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Sequence[str] = (),
        *,
        begins_at: int = 0,
        tells_stop_token: bool = False,
    ) -> None:
        """
        Args:
            begins_at: Characters before it, which offsets are counted from.
            tells_stop_token: Let a stop token that ends it be the last of its tokens; it has no text.
        """
        self._tells_stop_token = tells_stop_token
        self._decoder = StreamDecoder(tokenizer)
        self._stops = stops
        self._held = ""
        """Text that may be the beginning of a stop string."""
        self._num_shown = begins_at
        """Characters shown so far, with those before it."""
        self._waiting: deque[SaidToken] = deque()
        """Tokens whose text is not shown yet."""
        self.finish_reason: FinishReason | None = None
        self.num_tokens = 0

    def push(self, event: Event) -> Piece:
        """What an event lets be shown; sets `finish_reason` when the answer ends with it."""
        assert self.finish_reason is None, "an event after the end"
        self.finish_reason = event.finish_reason
        if event.token is not None:
            self.num_tokens += 1
            offset = self._num_shown + len(self._held)
            self._waiting.append(SaidToken(event.token, event.logprob, event.top_logprobs, offset))
            self._held += self._decoder.push(event.token)
        if event.finish_reason is not None:
            self._held += self._decoder.flush()
        if event.stop_token is not None and self._tells_stop_token:
            offset = self._num_shown + len(self._held)
            self._waiting.append(SaidToken(event.stop_token, event.logprob, event.top_logprobs, offset))
        if (cut := self._first_stop()) is not None:
            self.finish_reason = "stop"
            self._held = self._held[:cut]
            end = self._num_shown + cut
            while self._waiting and self._waiting[-1].offset >= end:
                self._waiting.pop()
        return self._show(len(self._held) if self.finish_reason else len(self._held) - self._num_suspicious())

    def _show(self, length: int) -> Piece:
        text, self._held = self._held[:length], self._held[length:]
        self._num_shown += length
        tokens = []
        # A token whose text is only begun waits, except at the end: shown are those before the next one's beginning.
        while self._waiting and (
            self.finish_reason is not None
            or (len(self._waiting) > 1 and self._waiting[1].offset <= self._num_shown)
            or not self._held
        ):
            tokens.append(self._waiting.popleft())
        return Piece(text, tuple(tokens))

    def _first_stop(self) -> int | None:
        """Where the first stop string begins in what is held back."""
        found = [(begin + len(stop), begin) for stop in self._stops if (begin := self._held.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _num_suspicious(self) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
