"""The scores of the next token of many rows, recorded once as a CUDA graph and then replayed. Knows no request.

Shapes: R rows of a recorded step, S tokens of each that it sees, V tokens of the vocabulary.

A GPU is done with a token of a small model before the host has started its hundreds of kernels one by one; a graph
starts them all at once. What is recorded keeps its shapes and addresses: there is a graph for each power of two of
rows, and of tokens to be seen. It is recorded when it is needed for the second time; the first time its step runs as it
is, as torch wants it before a recording.
"""

import functools
import logging
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.kv_cache import KVCache

logger = logging.getLogger(__name__)

LEAST_SEEN = 256
"""Fewer graphs for short answers, for reading more of what is masked. Arbitrary, not measured."""

Run = Callable[[], Tensor]
"""One step, (R, V) float32, of what stands in its inputs then."""

Record = Callable[[Run], Run]
"""From a step to one that does the same, with its result always in the same place."""

Scores = Callable[[Tensor, Tensor, KVCache, int], Tensor]
"""As `Engine.scores_at`."""


class GraphDecoder:
    """The next scores of the first rows of a cache, whatever their number and lengths, by few recorded steps."""

    def __init__(
        self,
        scores: Scores,
        cache: KVCache,
        *,
        record: Record | None,
        when_refused: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            record: `cuda_recorder`'s; None = each step runs as it is.
            when_refused: Called when a step could not be recorded; no other one is tried then.
        """
        self._scores = scores
        self._cache = cache
        self._record = record
        self._when_refused = when_refused
        self._steps: dict[tuple[int, int], _Step] = {}

    @torch.inference_mode()
    def __call__(self, tokens: Sequence[int]) -> Tensor:
        """The scores of what follows one more token in each of the first rows, (B, V) float32. They are overwritten by
        the next call."""
        B, cache = len(tokens), self._cache
        R = min(_power_of_two(B), len(cache.lengths))
        # The rows that fill up are answered too, at the place after their last token, where nothing is yet.
        lengths = cache.lengths[:R].tolist()
        S = min(max(LEAST_SEEN, _power_of_two(max(lengths) + 1)), cache.max_length)
        assert max(lengths) < S, f"a row of {max(lengths)} tokens has no room for one more"
        is_warm = (R, S) in self._steps
        if not is_warm:
            self._steps[R, S] = _Step(self._scores, cache, num_rows=R, num_seen=S)
        step = self._steps[R, S]
        step.ids.copy_(torch.tensor([*tokens, *[0] * (R - B)])[:, None])
        step.positions.copy_(torch.tensor(lengths)[:, None])
        if is_warm and self._record is not None and not step.is_recorded:
            self._try_to_record(step, self._record)
        scores = step.run()
        cache.lengths[:B] += 1
        return scores[:B]

    def _try_to_record(self, step: "_Step", record: Record) -> None:
        try:
            step.run = record(step.run)
            step.is_recorded = True
        except RuntimeError as error:
            self._record = None
            self._when_refused()
            logger.warning(
                "tokens are made without CUDA graphs, which takes longer: none could be recorded (%s)",
                str(error).strip().partition("\n")[0],
            )


class _Step:
    """One step of fixed shapes, `run`, and what it reads: `ids` and `positions`, (R, 1) int64 on the device."""

    def __init__(self, scores: Scores, cache: KVCache, *, num_rows: int, num_seen: int) -> None:
        # Two tensors and not the halves of one: where a half begins, torch.compile takes for a reason to compile anew.
        ids, positions = (
            torch.zeros(num_rows, 1, dtype=torch.int64, device=cache.keys.device) for _ in range(2)
        )
        self.ids, self.positions = ids, positions
        self.run: Run = lambda: scores(ids, positions, cache, num_seen)
        self.is_recorded = False


def cuda_recorder(device: torch.device) -> Record:
    """What records steps as CUDA graphs. They share memory, so that a result lasts until any of them is replayed.

    Args:
        device: With its index, such as "cuda:0".
    """
    pool = torch.cuda.graph_pool_handle()

    def record(run: Run) -> Run:
        stream, graph = _recording_stream(device), torch.cuda.CUDAGraph()
        with (
            _one_recording,
            # Around torch's own, which stays on its stream where a recording fails (2.13).
            torch.cuda.stream(stream),
            # Other threads of a server may use the device meanwhile; torch's default would let that end the recording.
            torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
        ):
            result = run()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay

    return record


_one_recording = threading.Lock()
"""Torch allows one at a time in a process: each begins with waiting for the device, which would end another."""


@functools.cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """Torch's own is of the device that recorded first in the process; what runs on another would not be recorded. One
    for all recordings, because each stream that multiplies gets memory for it that is kept."""
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


def _power_of_two(number: int) -> int:
    """The least that is not below `number`."""
    return 1 << (number - 1).bit_length()
