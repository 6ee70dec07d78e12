"""Continues token ids with a model and its cache of keys and values. Knows token ids and nothing else: no text.

Shapes: B rows, T new tokens, S tokens seen so far, V tokens of the vocabulary.
"""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor

from core.errors import DataError
from inference.sampling import SamplingSettings, row_generators, sample
from models.kv_cache import KVCache
from models.transformer_lm import TransformerLM

T_co = TypeVar("T_co", covariant=True)

FinishReason = Literal["stop", "length"]
"""Why an answer ended: "stop" = with a stop token; "length" = at max_tokens or at the end of the context."""


@dataclass(frozen=True)
class Completion:
    """What followed a prompt: its ids, without prompt and stop token, and whether a stop token ended it."""

    ids: tuple[int, ...]
    stopped: bool

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended."""
        return "stop" if self.stopped else "length"


class Stream(Iterator[T_co], Generic[T_co]):
    """An answer while it is made: its pieces, and afterwards why it ended.

    `close` (or dropping it) ends the work: nothing is computed after the last piece that was taken, and the memory
    it used is let go.

    Attributes:
        finish_reason: None until the last piece was taken.
    """

    def __init__(self, pieces: Generator[T_co, None, FinishReason | None]) -> None:
        self._pieces = pieces
        self.finish_reason: FinishReason | None = None

    def __next__(self) -> T_co:
        """The next piece, made now."""
        try:
            return next(self._pieces)
        except StopIteration as end:
            # A generator returns its value once; asked again, it ends with None.
            self.finish_reason = self.finish_reason or end.value
            raise

    def close(self) -> None:
        """End the work."""
        self._pieces.close()


class Engine:
    """A model on a device, ready to continue prompts. It keeps no state between calls.

    Attributes:
        model: Moved to `device` and in evaluation mode.
        context: Most tokens of prompt and answer together.
    """

    def __init__(
        self,
        model: TransformerLM,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """
        Args:
            model: It is moved to `device` and switched to evaluation mode, not copied.
            dtype: In which products are computed: float32, or bfloat16 by autocast.
        """
        self.model = model.to(device).eval()
        self.device = torch.device(device)
        self.dtype = dtype
        self.context = model.config.max_position_embeddings

    def check_prompt(self, prompt: Sequence[int]) -> None:
        """Nothing, when the prompt can be continued by at least one token.

        Raises:
            DataError: it is empty, as long as the context, or holds an id that the model has no embedding for.
        """
        num_embeddings = self.model.embedding.num_embeddings
        if not prompt:
            raise DataError("the prompt is empty; begin it with one token at least, such as <s>")
        if len(prompt) >= self.context:
            raise DataError(
                f"the prompt is {len(prompt)} tokens long and the model's context is {self.context} tokens, prompt and "
                f"answer together; shorten the prompt to at most {self.context - 1} tokens"
            )
        # On a GPU a wrong index would end the process instead of raising.
        if min(prompt) < 0 or max(prompt) >= num_embeddings:
            wrong = next(token for token in prompt if not 0 <= token < num_embeddings)
            raise DataError(
                f"the prompt holds the token id {wrong}, but the model has {num_embeddings} tokens; use the tokenizer "
                "that it was trained with"
            )

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        settings: SamplingSettings,
        *,
        allowed: Tensor | None = None,
        batch_size: int = 32,
        first_row: int = 0,
    ) -> list[Completion]:
        """How each prompt goes on, in the order of the prompts.

        Prompts of similar length run together. A row is not influenced by the others: with equal settings it comes
        out as alone, up to the rounding of products of other sizes, which can only decide between tokens whose
        scores are equal to the last digits.

        Args:
            allowed: (V,) bool, True = may be chosen; None = every row of the embedding.
            batch_size: Most rows at a time.
            first_row: Number of the first prompt in a longer list of which this is a part: the choices of a row
                depend on the seed and this number, so the parts come out as the whole would.

        Raises:
            DataError: as `check_prompt`; raised before any work is done.
        """
        for prompt in prompts:
            self.check_prompt(prompt)
        generators = row_generators(settings.seed, len(prompts), first_row=first_row)
        completions: dict[int, Completion] = {}
        for batch in self._batches(prompts, settings.max_tokens, batch_size):
            ids: dict[int, list[int]] = {index: [] for index in batch}
            stopped = set()
            steps = self._steps(
                [prompts[index] for index in batch], settings, [generators[index] for index in batch], allowed
            )
            for step in steps:
                for row, token in step.items():
                    if token in settings.stop_ids:
                        stopped.add(batch[row])
                    else:
                        ids[batch[row]].append(token)
            completions |= {index: Completion(tuple(ids[index]), index in stopped) for index in batch}
        return [completions[index] for index in range(len(prompts))]

    def stream(
        self, prompt: Sequence[int], settings: SamplingSettings, *, allowed: Tensor | None = None
    ) -> Stream[int]:
        """The ids that follow, one at a time as they are made; the same that `generate` returns for `[prompt]`.

        Raises:
            DataError: as `check_prompt`; raised by the call, before the first id is asked for.
        """
        self.check_prompt(prompt)
        return Stream(self._stream(prompt, settings, allowed))

    def _stream(
        self, prompt: Sequence[int], settings: SamplingSettings, allowed: Tensor | None
    ) -> Generator[int, None, FinishReason]:
        for step in self._steps([prompt], settings, row_generators(settings.seed, 1), allowed):
            if step[0] in settings.stop_ids:
                return "stop"
            yield step[0]
        return "length"

    def _batches(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, batch_size: int
    ) -> Iterator[list[int]]:
        """Indices of prompts that run together: sorted by length, and none cut off by a longer neighbour."""
        batch: list[int] = []
        for index in sorted(range(len(prompts)), key=lambda index: len(prompts[index])):
            length = len(prompts[index])
            # Padding takes room in the context, so unequal lengths need a context that the longest does not fill.
            fits = not batch or length == len(prompts[batch[0]]) or length + max_tokens <= self.context
            if not fits or len(batch) == batch_size:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _steps(
        self,
        prompts: Sequence[Sequence[int]],
        settings: SamplingSettings,
        generators: Sequence[torch.Generator],
        allowed: Tensor | None,
    ) -> Iterator[dict[int, int]]:
        """The next id of each row that has not stopped, by row, until all have stopped or the room is used up."""
        longest = max(map(len, prompts))
        num_steps = min(settings.max_tokens, self.context - longest)
        # Padded with a token of the row itself, so that the repetition penalty sees none that was not there.
        padded = [[prompt[0]] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        tokens = seen = torch.tensor(padded, device=self.device)
        padding = torch.tensor([longest - len(prompt) for prompt in prompts], device=self.device)
        cache = self._new_cache(longest + num_steps, padding)
        allowed = None if allowed is None else allowed.to(self.device)
        rows = list(range(len(prompts)))
        stopped: set[int] = set()
        for _ in range(num_steps):
            ids = self._next_ids(tokens, seen, cache, settings, generators, allowed)
            step = {row: token for row, token in zip(rows, ids.tolist(), strict=True) if row not in stopped}
            yield step
            stopped.update(row for row, token in step.items() if token in settings.stop_ids)
            going_on = [place for place, row in enumerate(rows) if row not in stopped]
            if not going_on:
                return
            tokens, seen = ids[:, None], torch.cat((seen, ids[:, None]), dim=1)
            # Copying the cache costs about what a few rows cost for a few tokens: done when half of them are wasted.
            if len(going_on) <= len(rows) // 2:
                kept = torch.tensor(going_on, device=self.device)
                tokens, seen, padding = tokens[kept], seen[kept], padding[kept]
                cache = self._keep_rows(cache, kept, padding)
                rows, generators = [rows[i] for i in going_on], [generators[i] for i in going_on]

    # Under `inference_mode` only here and not around a `yield`, which would leave it on in the caller's code.
    @torch.inference_mode()
    def _next_ids(
        self,
        tokens: Tensor,
        seen: Tensor,
        cache: KVCache,
        settings: SamplingSettings,
        generators: Sequence[torch.Generator],
        allowed: Tensor | None,
    ) -> Tensor:
        """Give the model `tokens` (B, T) and choose what follows them: (B,) int64."""
        with self._precision():
            features = self.model.features(tokens, cache=cache)
            logits = self.model.logits(features[:, -1])
        return sample(logits.float(), seen, settings, generators, allowed=allowed)

    def _new_cache(self, max_length: int, padding: Tensor) -> KVCache:
        weights_dtype = self.model.embedding.weight.dtype
        return KVCache(
            self.model.config,
            batch_size=len(padding),
            max_length=max_length,
            device=self.device,
            dtype=weights_dtype if self.dtype == torch.float32 else self.dtype,
            left_padding=padding if bool(padding.any()) else None,
        )

    @torch.inference_mode()
    def _keep_rows(self, cache: KVCache, kept: Tensor, padding: Tensor) -> KVCache:
        smaller = self._new_cache(cache.max_length, padding)
        for layer, (keys, values) in enumerate(zip(cache.keys, cache.values, strict=True)):
            smaller.append(layer, keys[kept, :, : cache.length], values[kept, :, : cache.length])
        smaller.advance(cache.length)
        return smaller

    def _precision(self) -> AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)
