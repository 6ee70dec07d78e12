"""Steps of fixed shapes: against the steps that know every length, with a recorder that acts as CUDA's does."""

import contextlib
import logging
import shutil
from collections.abc import Iterator

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
        assert engine.generate(RAGGED[:1], GREEDY) == expected
    (said,) = caplog.messages
    assert said.endswith(
        "none could be recorded (CUDA error: operation not permitted when stream is capturing)"
    )


def with_recorder(engine: Engine, record: Record, monkeypatch: pytest.MonkeyPatch) -> Engine:
    def decoder(cache: KVCache) -> GraphDecoder:
        return GraphDecoder(engine.scores_at, cache, record=record)

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


def test_a_recording_is_made_on_the_device_of_the_model_and_replayed_without_running_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[object] = []

    class Graph:
        def replay(self) -> None:
            done.append("replayed")

    @contextlib.contextmanager
    def during(*what: object, **options: object) -> Iterator[None]:
        done.append(("begins", *what, options))
        yield
        done.append(("ends", *what))

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "the pool")
    monkeypatch.setattr(torch.cuda, "graph", lambda _graph, **options: during("graph", **options))
    monkeypatch.setattr(torch.cuda, "device", during)
    device, result = torch.device("cuda:1"), torch.zeros(1)
    step = cuda_recorder(device)(lambda: done.append("run") or result)
    options = {"pool": "the pool", "capture_error_mode": "thread_local"}
    recorded = [
        ("begins", device, {}),
        ("begins", "graph", options),
        "run",
        ("ends", "graph"),
        ("ends", device),
    ]
    assert done == recorded
    assert step() is result
    assert step() is result
    assert done == [*recorded, "replayed", "replayed"]


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_on_a_gpu_recorded_graphs_give_the_ids_of_single_kernels(shape: str, compiled: bool) -> None:
    expected = Engine(tiny_model(shape), device="cuda", graphs=False).generate(RAGGED, GREEDY, batch_size=3)
    engine = Engine(tiny_model(shape), device="cuda", compiled=compiled)
    for _ in range(2):
        assert engine.generate(RAGGED, GREEDY, batch_size=3) == expected
