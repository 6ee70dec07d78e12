"""Continuing ids: against the forward pass without a cache, against transformers, alone and in batches."""

import gc
import weakref
from pathlib import Path

import pytest
import torch

from core.errors import DataError
from inference.engine import Completion, Engine
from inference.sampling import SamplingSettings
from models.kv_cache import KVCache
from models.transformer_lm import TransformerLM
from tests.inference.tiny_models import SHAPES, VOCABULARY, prompt_of, tiny_model

GREEDY = SamplingSettings(temperature=0.0, max_tokens=12)
RAGGED = [prompt_of(length, seed=length) for length in (3, 9, 9, 4, 20, 9, 7)]


def without_cache(model: TransformerLM, prompt: list[int], num_tokens: int) -> list[int]:
    """Greedy continuation by the whole forward pass for every token."""
    ids = list(prompt)
    model.eval()
    with torch.no_grad():
        for _ in range(num_tokens):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_ids_are_those_of_the_forward_pass_without_a_cache(shape: str) -> None:
    model = tiny_model(shape)
    engine = Engine(model)
    for prompt in RAGGED:
        expected = without_cache(model, prompt, 12)
        assert engine.generate([prompt], GREEDY) == [Completion(tuple(expected), stopped=False)]
        assert list(engine.stream(prompt, GREEDY)) == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_ids_are_those_of_transformers_generate(shape: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from models.hf_layout import save_model

    model = tiny_model(shape)
    save_model(model, tmp_path, bos_id=1, eos_id=2, pad_id=3)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    theirs.generation_config.eos_token_id = None
    for prompt in RAGGED[:3]:
        ids = torch.tensor([prompt])
        out = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=12,
            repetition_penalty=1.3,
        )
        ours = Engine(model).generate([prompt], GREEDY.replace(repetition_penalty=1.3))
        assert list(ours[0].ids) == out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_ids_do_not_depend_on_what_else_is_in_the_batch(shape: str) -> None:
    engine = Engine(tiny_model(shape))
    alone = [engine.generate([prompt], GREEDY)[0] for prompt in RAGGED]
    for batch_size in (1, 2, 3, 32):
        assert engine.generate(RAGGED, GREEDY, batch_size=batch_size) == alone
    assert engine.generate(RAGGED[::-1], GREEDY) == alone[::-1]


def test_sampled_ids_depend_on_the_seed_and_the_row_alone() -> None:
    engine = Engine(tiny_model())
    sampled = SamplingSettings(temperature=1.0, top_k=None, seed=5, max_tokens=12, repetition_penalty=1.2)
    together = engine.generate(RAGGED, sampled)
    assert engine.generate(RAGGED, sampled, batch_size=2) == together
    parts = [engine.generate([prompt], sampled, first_row=row)[0] for row, prompt in enumerate(RAGGED)]
    assert parts == together
    assert engine.generate(RAGGED, sampled.replace(seed=6)) != together
    assert tuple(engine.stream(RAGGED[0], sampled)) == together[0].ids
    same = engine.generate([RAGGED[0]] * 8, sampled)
    assert len({completion.ids for completion in same}) == 8


def test_rows_that_stop_early_do_not_change_the_others() -> None:
    engine = Engine(tiny_model())
    free = [engine.generate([prompt], GREEDY)[0].ids for prompt in RAGGED]
    # Ids of three rows are declared stop tokens, so rows end at different steps.
    stop_ids = (free[0][3], free[2][5], free[4][0])
    expected = []
    for ids in free:
        places = [place for place, token in enumerate(ids) if token in stop_ids]
        expected.append(Completion(ids[: places[0]] if places else ids, stopped=bool(places)))
    assert {completion.stopped for completion in expected} == {True, False}
    assert engine.generate(RAGGED, GREEDY.replace(stop_ids=stop_ids)) == expected


def test_sampled_rows_keep_their_own_numbers_when_others_have_stopped() -> None:
    engine = Engine(tiny_model())
    sampled = SamplingSettings(
        temperature=3.0, top_k=None, seed=2, max_tokens=20, stop_ids=tuple(range(100, 160))
    )
    alone = [engine.generate([prompt], sampled, first_row=row)[0] for row, prompt in enumerate(RAGGED)]
    assert len({len(completion.ids) for completion in alone}) > 3, "rows end at different steps"
    assert engine.generate(RAGGED, sampled) == alone


def test_rows_that_have_stopped_are_not_computed_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny_model())
    free = [engine.generate([prompt], GREEDY)[0].ids for prompt in RAGGED]
    sizes = []
    features = engine.model.features
    monkeypatch.setattr(
        engine.model, "features", lambda ids, **more: sizes.append(ids.shape) or features(ids, **more)
    )
    engine.generate(RAGGED, GREEDY.replace(stop_ids=[ids[0] for ids in free[:6]], max_tokens=5))
    assert sum(rows for rows, num_tokens in sizes if num_tokens > 1) == 7
    assert [rows for rows, num_tokens in sizes if num_tokens == 1] == [1] * 4


def test_a_stop_token_ends_the_answer_and_is_no_part_of_it() -> None:
    engine = Engine(tiny_model())
    ids = engine.generate([RAGGED[1]], GREEDY)[0].ids
    stopping = GREEDY.replace(stop_ids=[ids[4]])
    end = ids.index(ids[4])
    [completion] = engine.generate([RAGGED[1]], stopping)
    assert (completion.ids, completion.stopped, completion.finish_reason) == (ids[:end], True, "stop")
    stream = engine.stream(RAGGED[1], stopping)
    assert (tuple(stream), stream.finish_reason) == (ids[:end], "stop")


def test_at_max_tokens_the_reason_is_length() -> None:
    engine = Engine(tiny_model())
    [completion] = engine.generate([RAGGED[0]], GREEDY)
    assert (len(completion.ids), completion.finish_reason) == (12, "length")
    stream = engine.stream(RAGGED[0], GREEDY)
    assert stream.finish_reason is None
    assert len(list(stream)) == 12
    assert stream.finish_reason == "length"
    assert list(stream) == []
    assert stream.finish_reason == "length"


@pytest.mark.parametrize("shape", ["qwen3", "gpt2"])
@pytest.mark.parametrize("length", [60, 63])
def test_an_answer_ends_where_the_context_is_full(shape: str, length: int) -> None:
    engine = Engine(tiny_model(shape))
    prompt = prompt_of(length)
    stream = engine.stream(prompt, GREEDY)
    ids = list(stream)
    assert len(prompt) + len(ids) == engine.context == 64
    assert stream.finish_reason == "length"
    assert ids == without_cache(engine.model, prompt, 64 - length)


def test_a_long_neighbour_takes_no_room_from_a_short_prompt() -> None:
    engine = Engine(tiny_model())
    long_answers = GREEDY.replace(max_tokens=1000)
    short, long = engine.generate([prompt_of(5), prompt_of(60)], long_answers)
    assert (len(short.ids), len(long.ids)) == (59, 4)


@pytest.mark.parametrize("length", [64, 65, 200])
def test_a_prompt_that_fills_the_context_is_refused_with_both_counts(length: int) -> None:
    engine = Engine(tiny_model())
    reason = f"prompt is {length} tokens long and the model's context is 64 tokens.*at most 63 tokens"
    with pytest.raises(DataError, match=reason):
        engine.generate([prompt_of(5), prompt_of(length)], GREEDY)
    with pytest.raises(DataError, match=reason):
        engine.stream(prompt_of(length), GREEDY)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(DataError, match="the prompt is empty; begin it with one token"):
        Engine(tiny_model()).stream([], GREEDY)


@pytest.mark.parametrize("token", [-1, VOCABULARY, 10**6])
def test_an_id_without_an_embedding_is_refused(token: int) -> None:
    with pytest.raises(DataError, match=f"token id {token}, but the model has {VOCABULARY} tokens"):
        Engine(tiny_model()).generate([[1, token, 3]], GREEDY)


def test_no_prompts_give_no_completions() -> None:
    assert Engine(tiny_model()).generate([], GREEDY) == []


def test_only_allowed_ids_come_out() -> None:
    allowed = torch.zeros(VOCABULARY, dtype=torch.bool)
    allowed[100:120] = True
    sampled = SamplingSettings(temperature=5.0, max_tokens=30, seed=1)
    completions = Engine(tiny_model()).generate(RAGGED, sampled, allowed=allowed)
    assert {token for completion in completions for token in completion.ids} <= set(range(100, 120))


def test_a_closed_stream_computes_nothing_more_and_lets_its_cache_go(monkeypatch: pytest.MonkeyPatch) -> None:
    caches: list[weakref.ref[KVCache]] = []
    calls = []

    class Watched(KVCache):
        def __init__(self, *args, **more):  # type: ignore[no-untyped-def]
            super().__init__(*args, **more)
            caches.append(weakref.ref(self))

    monkeypatch.setattr("inference.engine.KVCache", Watched)
    engine = Engine(tiny_model())
    engine.model.register_forward_hook(lambda *_: calls.append(1))
    features = engine.model.features
    monkeypatch.setattr(engine.model, "features", lambda *a, **k: calls.append(1) or features(*a, **k))
    stream = engine.stream(RAGGED[0], GREEDY)
    assert not calls, "nothing is computed before the first id is asked for"
    next(stream), next(stream)
    assert len(calls) == 2
    stream.close()
    assert list(stream) == []
    assert stream.finish_reason is None
    assert len(calls) == 2
    gc.collect()
    assert [cache() for cache in caches] == [None]


def test_inference_mode_does_not_leak_out_of_a_stream() -> None:
    stream = Engine(tiny_model()).stream(RAGGED[0], GREEDY)
    next(stream)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    weight = torch.ones(2, requires_grad=True)
    (weight * 2).sum().backward()


def test_streams_that_are_read_in_turns_do_not_disturb_each_other() -> None:
    engine = Engine(tiny_model())
    streams = [engine.stream(prompt, GREEDY) for prompt in RAGGED]
    rounds = [[next(stream) for stream in streams] for _ in range(12)]
    assert [tuple(row) for row in zip(*rounds, strict=True)] == [
        c.ids for c in engine.generate(RAGGED, GREEDY)
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_by_autocast_continues_as_the_forward_pass_in_bfloat16(shape: str) -> None:
    model = tiny_model(shape)
    prompt = prompt_of(9)
    ids = list(Engine(model, dtype=torch.bfloat16).stream(prompt, GREEDY))
    assert model.embedding.weight.dtype == torch.float32
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.tensor([prompt + ids]))[0, len(prompt) - 1 : -1].float()
    # bfloat16 keeps 8 bits: the id that was chosen has the best score, or one that rounding made as good.
    chosen = logits.gather(1, torch.tensor(ids)[:, None])[:, 0]
    best, scale = logits.amax(-1), logits.abs().amax(-1)
    assert bool((best - chosen <= 0.05 * scale).all())
    assert Engine(model, dtype=torch.bfloat16).generate([prompt_of(9), prompt_of(5)], GREEDY)[0].ids


def test_weights_in_bfloat16_need_no_autocast() -> None:
    model = tiny_model().to(torch.bfloat16)
    completions = Engine(model).generate(RAGGED, GREEDY)
    assert [len(completion.ids) for completion in completions] == [12] * len(RAGGED)


def test_the_engine_switches_dropout_off() -> None:
    model = tiny_model(dropout=0.5).train()
    engine = Engine(model)
    assert not model.training
    assert engine.generate(RAGGED, GREEDY) == engine.generate(RAGGED, GREEDY)


@pytest.mark.gpu
def test_a_gpu_gives_the_ids_of_the_cpu() -> None:
    on_cpu = Engine(tiny_model()).generate(RAGGED, GREEDY)
    sampled = SamplingSettings(temperature=1.0, seed=5, max_tokens=12)
    sampled_on_cpu = Engine(tiny_model()).generate(RAGGED, sampled)
    engine = Engine(tiny_model(), device="cuda")
    assert engine.generate(RAGGED, GREEDY) == on_cpu
    assert engine.generate(RAGGED, sampled) == sampled_on_cpu
