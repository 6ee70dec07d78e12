"""Continues token ids with a model and its cache of keys and values. Knows token ids and nothing else: no text.

Shapes: B rows, V tokens of the vocabulary.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from core.errors import DataError
from inference.continuous_batch import ContinuousBatch, Event, FinishReason, Request
from inference.decode_graph import GraphDecoder, cuda_recorder
from inference.prepared_weights import prepare_weights
from inference.sampling_settings import SamplingSettings
from inference.weight_formats import WeightFormat
from models.kv_cache import KVCache
from models.transformer_lm import Blocks, TransformerLM

T_co = TypeVar("T_co", covariant=True)

__all__ = ["Completion", "Engine", "FinishReason", "Stream"]


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
        num_tokens: Rows of the embedding: ids below it are known.
    """

    def __init__(
        self,
        model: TransformerLM,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        weights: WeightFormat | None = None,
        graphs: bool | None = None,
        compiled: bool = False,
    ) -> None:
        """
        Args:
            model: It is moved to `device` and switched to evaluation mode, not copied.
            dtype: In which products are computed: float32, or bfloat16 by autocast.
            weights: Lay the weights out for fast products, in place (`inference.prepared_weights`), and compute as this
                format says, not `dtype`; None = leave the model as it is.
            graphs: Make tokens by steps of fixed shapes (`inference.decode_graph`), which CUDA records as graphs.
                None = on a CUDA device.
            compiled: Let torch.compile fuse the layers of such steps, when the first is made; not for `weights`.

        Raises:
            ConfigError: this machine has no products for such weights.
        """
        assert not (compiled and weights), "torch.compile is for weights as they are"
        self.model = model.to(device).eval()
        self.device = torch.device(device)
        self.weights = weights
        self.dtype = dtype
        self._cache_dtype = model.embedding.weight.dtype if dtype == torch.float32 else dtype
        if weights is not None:
            prepare_weights(self.model, weights)
            self._cache_dtype = torch.float32
        self._graphs = self.device.type == "cuda" or compiled if graphs is None else graphs
        self._records = True
        self._step_blocks: Blocks | None = None
        if compiled:  # beside the model's own, with the same weights: prompts have other shapes each time
            blocks: list[Any] = [torch.compile(block, dynamic=True) for block in self.model.blocks]
            self._step_blocks = Blocks(blocks)
        self.context = model.config.max_position_embeddings
        self.num_tokens = model.embedding.num_embeddings

    def check_prompt(self, prompt: Sequence[int]) -> None:
        """Nothing, when the prompt can be continued by at least one token.

        Raises:
            DataError: it is empty, as long as the context, or holds an id that the model has no embedding for.
        """
        if not prompt:
            raise DataError("the prompt is empty; begin it with one token at least, such as <s>")
        if len(prompt) >= self.context:
            raise DataError(
                f"the prompt is {len(prompt)} tokens long and the model's context is {self.context} tokens, prompt and "
                f"answer together; shorten the prompt to at most {self.context - 1} tokens"
            )
        # On a GPU a wrong index would end the process instead of raising.
        if min(prompt) < 0 or max(prompt) >= self.num_tokens:
            wrong = next(token for token in prompt if not 0 <= token < self.num_tokens)
            raise DataError(
                f"the prompt holds the token id {wrong}, but the model has {self.num_tokens} tokens; use the tokenizer "
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

        A row is not influenced by the others, as `ContinuousBatch` says.

        Args:
            allowed: (V,) bool, True = may be chosen; None = every row of the embedding.
            batch_size: Most rows at a time.
            first_row: Number of the first prompt in a longer list of which this is a part: the choices of a row
                depend on the seed and this number, so the parts come out as the whole would.

        Raises:
            DataError: as `check_prompt`; raised before any work is done.
        """
        requests = [
            Request(tuple(prompt), settings, row) for row, prompt in enumerate(prompts, start=first_row)
        ]
        completions = dict(self.complete(requests, allowed=allowed, batch_size=batch_size))
        return [completions[place] for place in range(len(requests))]

    def complete(
        self,
        requests: Sequence[Request],
        *,
        allowed: Tensor | None = None,
        batch_size: int = 32,
        ends_with: Callable[[int, Event], bool] | None = None,
    ) -> Iterator[tuple[int, Completion]]:
        """The place of each request in the list and how it goes on, in the order in which they end.

        Args:
            ends_with: Told of each event and the place of its request; what it says True to is the last one.

        Raises:
            DataError: as `check_prompt`; raised by the call, before any work is done.
        """
        for request in requests:
            self.check_prompt(request.prompt)
        return self._complete(requests, allowed, batch_size, ends_with or (lambda _place, _event: False))

    def _complete(
        self,
        requests: Sequence[Request],
        allowed: Tensor | None,
        batch_size: int,
        ends_with: Callable[[int, Event], bool],
    ) -> Iterator[tuple[int, Completion]]:
        batch = ContinuousBatch(
            self,
            max_rows=min(batch_size, len(requests)),
            allowed=allowed,
            max_length=max((self._room(request) for request in requests), default=1),
        )
        # Of similar length together, because prompts are read side by side.
        places = sorted(range(len(requests)), key=lambda place: len(requests[place].prompt))
        place_of = {batch.add(requests[place]): place for place in places}
        ids: dict[int, list[int]] = {key: [] for key in place_of}
        while batch.num_running or batch.num_waiting:
            for event in batch.step():
                if event.token is not None:
                    ids[event.key].append(event.token)
                place = place_of[event.key]
                if ends_with(place, event) or event.finish_reason is not None:
                    batch.cancel(event.key)
                    yield place, Completion(tuple(ids.pop(event.key)), event.finish_reason != "length")

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
    ) -> Generator[int, None, FinishReason | None]:
        request = Request(tuple(prompt), settings)
        batch = ContinuousBatch(self, max_rows=1, allowed=allowed, max_length=self._room(request))
        batch.add(request)
        while True:
            for event in batch.step():
                if event.token is not None:
                    yield event.token
                if event.finish_reason is not None:
                    return event.finish_reason

    def _room(self, request: Request) -> int:
        """Tokens of a prompt and its answer together."""
        return min(len(request.prompt) + request.settings.max_tokens, self.context)

    def new_cache(self, *, batch_size: int, max_length: int) -> KVCache:
        """An empty cache for `scores`."""
        return KVCache(
            self.model.config,
            batch_size=batch_size,
            max_length=max_length,
            device=self.device,
            dtype=self._cache_dtype,
        )

    @torch.inference_mode()
    def scores(self, tokens: Sequence[Sequence[int]], cache: KVCache) -> Tensor:
        """The model's scores of what follows, (B, V) float32, after these new tokens of each row of the cache."""
        lengths = [len(row) for row in tokens]
        longest = max(lengths)
        # Filled up at the end, where nobody looks: a token sees none after it, and the cache is told the true lengths.
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in tokens], device=self.device)
        is_ragged = min(lengths) < longest
        with self._precision():
            features = self.model.features(ids, cache=cache)
            if is_ragged:
                ends = torch.tensor(lengths)
                cache.lengths += ends - longest
                features = features[torch.arange(len(tokens)), ends - 1]
            else:
                features = features[:, -1]
            return self.model.logits(features).float()

    def decoder(self, cache: KVCache) -> Callable[[Sequence[int]], Tensor]:
        """The fastest way to read one more token in each of the first rows of a cache: from those tokens to the scores
        of what follows them, (B, V) float32, which are overwritten by the next call."""
        if self._graphs:
            device = cache.keys.device  # with its index
            record = cuda_recorder(device) if device.type == "cuda" and self._records else None
            return GraphDecoder(self.scores_at, cache, record=record, when_refused=self._stop_recording)
        return lambda tokens: self.scores([[token] for token in tokens], cache.rows(0, len(tokens)))

    def _stop_recording(self) -> None:
        self._records = False

    @torch.inference_mode()
    def scores_at(self, ids: Tensor, positions: Tensor, cache: KVCache, num_seen: int) -> Tensor:
        """The model's scores of what follows one new token of each of the first rows of the cache, (R, V) float32, by
        operations of which none depends on a value.

        Args:
            ids, positions: (R, 1) int64 on the device. All but the first `positions` tokens of a row are nothing; the
                cache is not told of the new one.
            num_seen: As `KVCache.at`.
        """
        mask = torch.arange(num_seen, device=self.device) <= positions[:, None, :, None]
        layers = cache.at(positions, num_seen=num_seen)
        with self._precision():
            features = self.model.features_at(ids, positions, mask, layers, blocks=self._step_blocks)
            return self.model.logits(features[:, -1]).float()

    @torch.inference_mode()
    def all_scores(self, tokens: Sequence[int], cache: KVCache) -> Tensor:
        """The model's scores of what follows each of these new tokens of a cache's only row, (T, V) float32."""
        with self._precision():
            features = self.model.features(torch.tensor([tokens], device=self.device), cache=cache)
            return self.model.logits(features)[0].float()

    @torch.inference_mode()
    def log_probabilities(self, ids: Sequence[int]) -> list[float]:
        """ln p of each id but the first, after those before it; at most a context of them."""
        row = torch.tensor(ids, device=self.device)
        with self._precision():
            logits = self.model(row[None, :-1])[0]
        log_p = logits.float().log_softmax(dim=-1).gather(1, row[1:, None])
        return [float(value) for value in log_p[:, 0].tolist()]

    def _precision(self) -> AbstractContextManager[Any]:
        if self.weights is not None or self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)
