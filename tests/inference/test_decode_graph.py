"""Steps of fixed shapes: against the steps that know every length, with a recorder that acts as CUDA's does."""

import logging
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

import inference.decode_graph
from inference.decode_graph import GraphDecoder, Record, Run, cuda_recorder
from inference.engine import Engine
from inference.sampling import SamplingSettings
from models.kv_cache import KVCache
from tests.inference.tiny_models import SHAPES, prompt_of, tiny_model

HAS_COMPILER = any(map(shutil.which, ("g++", "clang++")))
GREEDY = SamplingSettings(temperature=0.0, max_tokens=30)
RAGGED = [prompt_of(length, seed=length) for length in (3, 9, 9, 4, 20)]


class Recorder:
    """Records as CUDA does: nothing is computed while recording, and every replay writes to the same place."""

    def __init__(self) -> None:
        self.num_recorded = 0

    def __call__(self, run: Run) -> Run:
        self.num_recorded += 1
        result = torch.full_like(run(), torch.nan)
        return lambda: result.copy_(run())


def filled(engine: Engine, prompts: list[list[int]], *, rows: int = 8) -> KVCache:
    cache = engine.new_cache(batch_size=rows, max_length=64)
    engine.scores(prompts, cache.rows(0, len(prompts)))
    return cache


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_by_recorded_steps_are_those_of_steps_that_know_the_lengths(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.decode_graph, "LEAST_SEEN", 8)
    engine, recorder = Engine(tiny_model(shape)), Recorder()
    expected, cache = filled(engine, RAGGED), filled(engine, RAGGED)
    decoder = GraphDecoder(engine.scores_at, cache, record=recorder)
    for step in range(40):
        tokens = prompt_of(5 if step % 3 else 3, seed=step)  # of some rows only, now and then
        found = decoder(tokens)
        assert found.shape == (len(tokens), engine.num_tokens)
        wanted = engine.scores([[token] for token in tokens], expected.rows(0, len(tokens)))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        assert cache.lengths.tolist() == expected.lengths.tolist()
    # 4 rows for 3, the longest of which has 10 to 50 tokens: 16, 32 and 64 are seen. 8 rows for 5, one of 20 to 46.
    assert recorder.num_recorded == 3 + 2


def test_a_step_that_is_needed_once_is_not_recorded() -> None:
    engine, recorder = Engine(tiny_model()), Recorder()
    decoder = GraphDecoder(engine.scores_at, filled(engine, RAGGED[:1]), record=recorder)
    decoder([17])
    assert recorder.num_recorded == 0
    decoder([18])
    decoder([19])
    assert recorder.num_recorded == 1


def test_rows_that_fill_up_a_step_keep_what_is_in_them() -> None:
    engine = Engine(tiny_model())
    cache = filled(engine, RAGGED)
    before = [
        kept[:, row, :, :length].clone()
        for kept in (cache.keys, cache.values)
        for row, length in enumerate(cache.lengths.tolist())
    ]
    GraphDecoder(engine.scores_at, cache, record=None)([17, 18, 19])
    after = [
        kept[:, row, :, :length]
        for kept in (cache.keys, cache.values)
        for row, length in enumerate([3, 9, 9, 4, 20, 0, 0, 0])
    ]
    assert cache.lengths.tolist() == [4, 10, 10, 4, 20, 0, 0, 0]
    for kept, now in zip(before, after, strict=True):
        assert torch.equal(kept, now)


def test_where_nothing_can_be_recorded_it_is_said_once_and_tokens_are_made_all_the_same(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.decode_graph, "LEAST_SEEN", 8)

    def refuse(run: Run) -> Run:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore of it")

    engine = Engine(tiny_model())
    expected = engine.generate(RAGGED[:1], GREEDY)
    engine = with_recorder(engine, refuse, monkeypatch)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert engine.generate(RAGGED[:1], GREEDY) == expected
    (said,) = caplog.messages
    assert said.endswith(
        "none could be recorded (CUDA error: operation not permitted when stream is capturing)"
    )


def with_recorder(engine: Engine, record: Record, monkeypatch: pytest.MonkeyPatch) -> Engine:
    def decoder(cache: KVCache) -> GraphDecoder:
        recording = record if engine._records else None
        return GraphDecoder(engine.scores_at, cache, record=recording, when_refused=engine._stop_recording)

    monkeypatch.setattr(engine, "decoder", decoder)
    return engine


@pytest.mark.parametrize("shape", SHAPES)
def test_answers_by_recorded_steps_are_the_same(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.decode_graph, "LEAST_SEEN", 8)
    sampled = SamplingSettings(temperature=1.0, top_p=0.9, seed=5, max_tokens=30, repetition_penalty=1.1)
    engine = Engine(tiny_model(shape))
    expected = [engine.generate(RAGGED, chosen, batch_size=3) for chosen in (GREEDY, sampled)]
    recorder = Recorder()
    recording = with_recorder(engine, recorder, monkeypatch)
    assert [recording.generate(RAGGED, chosen, batch_size=3) for chosen in (GREEDY, sampled)] == expected
    assert recorder.num_recorded > 4


@pytest.mark.filterwarnings("ignore")  # torch warns of the inside of its compiler
@pytest.mark.slow
@pytest.mark.skipif(not HAS_COMPILER, reason="torch.compile needs a C++ compiler")
def test_answers_by_compiled_steps_are_the_same() -> None:
    expected = Engine(tiny_model()).generate(RAGGED[:2], GREEDY)
    engine = Engine(tiny_model(), compiled=True)
    assert engine.generate(RAGGED[:2], GREEDY) == expected


class Cuda:
    """The parts of a GPU that recording by torch's own `torch.cuda.graph` needs: streams, and graphs that hold
    nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stream: object = "the default stream"
        self.done: list[Any] = []
        self.fails = False
        cuda = self

        class Graph:
            def capture_begin(self, *pool: object, **options: object) -> None:
                cuda.done.append(("begins", cuda.stream, *pool, options["capture_error_mode"]))

            def capture_end(self) -> None:
                cuda.done.append("ends")
                if cuda.fails:
                    raise RuntimeError("CUDA error: an earlier error during capture")

            def replay(self) -> None:
                cuda.done.append(("replayed", cuda.stream))

        class OnStream:
            def __init__(self, stream: object) -> None:
                self.stream = stream

            def __enter__(self) -> None:
                self.before, cuda.stream = cuda.stream, self.stream

            def __exit__(self, *error: object) -> None:
                cuda.stream = self.before

        inference.decode_graph._recording_stream.cache_clear()
        monkeypatch.setattr(torch.cuda.graph, "default_capture_stream", "of the device that recorded first")
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "the pool")
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"a stream of {device}")
        monkeypatch.setattr(torch.cuda, "stream", OnStream)
        for waiting in ("synchronize", "empty_cache"):
            monkeypatch.setattr(torch.cuda, waiting, lambda: None)
        monkeypatch.setattr(torch._C, "_host_emptyCache", lambda: None, raising=False)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    yield Cuda(monkeypatch)
    inference.decode_graph._recording_stream.cache_clear()


def test_a_recording_is_made_on_the_device_of_the_model_and_replayed_without_running_it_again(
    cuda: Cuda,
) -> None:
    for device, result in (("cuda:0", torch.zeros(1)), ("cuda:1", torch.ones(1))):
        cuda.done.clear()
        step = cuda_recorder(torch.device(device))(partial(ran, cuda, result))
        begins = ("begins", f"a stream of {device}", "the pool", "thread_local")
        recorded = [begins, ("ran", f"a stream of {device}"), "ends"]
        assert cuda.done == recorded
        assert step() is result
        assert step() is result
        assert cuda.done == [*recorded, *2 * [("replayed", "the default stream")]]


def ran(cuda: Cuda, result: torch.Tensor) -> torch.Tensor:
    cuda.done.append(("ran", cuda.stream))
    return result


def test_after_a_recording_that_fails_steps_run_where_they_ran_before(cuda: Cuda) -> None:
    cuda.fails = True
    with pytest.raises(RuntimeError, match="during capture"):
        cuda_recorder(torch.device("cuda:0"))(partial(ran, cuda, torch.zeros(1)))
    assert cuda.stream == "the default stream"


def test_one_step_is_recorded_at_a_time(cuda: Cuda) -> None:
    is_running, may_end = threading.Event(), threading.Event()

    def slow() -> torch.Tensor:
        is_running.set()
        may_end.wait(10)
        return torch.zeros(1)

    record = cuda_recorder(torch.device("cuda:0"))
    threads = [threading.Thread(target=record, args=(run,)) for run in (slow, partial(torch.ones, 1))]
    threads[0].start()
    assert is_running.wait(10)
    threads[1].start()
    threads[1].join(0.1)
    assert [what for what in cuda.done if what[0] == "begins"] == cuda.done[:1]
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert [what if what == "ends" else what[0] for what in cuda.done] == 2 * ["begins", "ends"]


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_on_a_gpu_recorded_graphs_give_the_ids_of_single_kernels(shape: str, compiled: bool) -> None:
    expected = Engine(tiny_model(shape), device="cuda", graphs=False).generate(RAGGED, GREEDY, batch_size=3)
    engine = Engine(tiny_model(shape), device="cuda", compiled=compiled)
    for _ in range(2):
        assert engine.generate(RAGGED, GREEDY, batch_size=3) == expected
