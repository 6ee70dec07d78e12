"""Weights in every format: against the model they were made from, and against rounding by the definition."""

import math

import pytest
import torch
import torch.nn.functional as F

import inference.prepared_weights
import models.attention
from core.errors import ConfigError
from inference.engine import Engine
from inference.prepared_weights import (
    cast_weights,
    check_weights,
    fast_weights,
    prepare_weights,
)
from inference.sampling import SamplingSettings
from inference.weight_formats import WEIGHT_FORMATS, WeightFormat
from models.blockwise_attention import LEAST_TOKENS
from models.transformer_lm import TransformerLM
from tests.inference.tiny_models import SHAPES, prompt_of, tiny_model

CPU = torch.device("cpu")
GREEDY = SamplingSettings(temperature=0.0, max_tokens=12)
PROMPTS = [prompt_of(length, seed=length) for length in (3, 9, 9, 4, 20, 9, 7)]

UNIT = {"float32": 2.0**-24, "bfloat16": 2.0**-8 / 2}
"""The largest relative error of one rounding: half of the last bit of 24 and of 8."""

LONGEST_SUM = 128
"""Products in a sum of a tiny model. Such a sum in float32 is off by at most as many units of the size of what it adds
(Higham 2002, section 3.1)."""

UNEXPLAINED = 0.1
"""Of the distance between a prepared model and the plain one, the share that exact roundings may leave. Rounded
otherwise, it is above 1: two errors of equal size and no relation are sqrt(2) of one apart. It is not 0, because what
float32 computes is rounded to the neighbouring step once in a while."""


def available(weights: WeightFormat) -> WeightFormat:
    try:
        check_weights(weights, CPU)
    except ConfigError as error:
        pytest.skip(str(error))
    return weights


def rounded(x: torch.Tensor, weights: WeightFormat, *, side: str) -> torch.Tensor:
    """x (..., D) as a product of the format sees it on its "left" (features) or "right" (weights), float64."""
    if weights == "int8":
        step = x.double().abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
        return (x.double() / step).round() * step
    if weights == "bfloat16" or (weights == "float16" and side == "right"):
        return x.to(getattr(torch, weights)).double()
    return x.double()


def product_by_definition(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, weights: WeightFormat
) -> torch.Tensor:
    y = rounded(x, weights, side="left") @ rounded(weight, weights, side="right").T
    if bias is not None:
        y = y + (bias.bfloat16() if weights == "bfloat16" else bias).double()
    return y.bfloat16().double() if weights == "bfloat16" else y


def with_random_biases(model: TransformerLM) -> TransformerLM:
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, generator=generator)
    return model.eval()


def rounding_model(shape: str, weights: WeightFormat) -> TransformerLM:
    """The plain model, the products of which are those by definition."""
    model = with_random_biases(tiny_model(shape))
    if model.head is None:
        model.head = torch.nn.Linear(*reversed(model.head_weight.shape), bias=False)
        model.head.weight = model.embedding.weight
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            weight, bias = module.weight, module.bias
            module.forward = lambda x, w=weight, b=bias: product_by_definition(x, w, b, weights).float()
    return model


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_logits_differ_from_those_of_the_plain_model_by_the_roundings_of_the_format_alone(
    shape: str, weights: WeightFormat
) -> None:
    plain, prepared = (with_random_biases(tiny_model(shape)) for _ in range(2))
    prepare_weights(prepared, available(weights))
    ids = torch.tensor([prompt_of(40), prompt_of(40, seed=1)])
    with torch.inference_mode():
        exact, expected = plain(ids).double(), rounding_model(shape, weights)(ids).double()
        found = prepared(ids).double()
    if weights == "float32":
        assert (found - exact).norm() < LONGEST_SUM * UNIT["float32"] * exact.norm()
    else:
        assert (found - expected).norm() < UNEXPLAINED * (expected - exact).norm()


@pytest.mark.parametrize("shape", SHAPES)
def test_many_tokens_at_once_attend_in_bfloat16_where_weights_are_in_it(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = with_random_biases(tiny_model(shape))
    prepare_weights(prepared, available("bfloat16"))
    ids = torch.tensor([prompt_of(LEAST_TOKENS)])
    with torch.inference_mode():
        found = prepared(ids).double()
        in_float32 = rounding_model(shape, "bfloat16")(ids).double()
        attend = models.attention.attend

        def attend_in_bfloat16(*heads: torch.Tensor, dropout: float) -> torch.Tensor:
            *heads, mask = heads
            return attend(*(x.bfloat16() for x in heads), mask).float()

        monkeypatch.setattr(models.attention, "attend", attend_in_bfloat16)
        expected = rounding_model(shape, "bfloat16")(ids).double()
    assert (found - expected).norm() < UNEXPLAINED * (found - in_float32).norm()


@pytest.mark.parametrize("num_rows", [1, 2, 70])
@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_a_product_is_that_of_rounded_numbers_up_to_the_rounding_of_its_sums(
    weights: WeightFormat, num_rows: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(40, 96, generator=generator), torch.randn(40, generator=generator)
    x = torch.randn(num_rows, 96, generator=generator) * torch.logspace(-3, 3, num_rows)[:, None]
    found = inference.prepared_weights._maker(available(weights), CPU)(weight, bias)(x).double()
    expected = product_by_definition(x, weight, bias, weights)
    sizes = (
        rounded(x, weights, side="left").abs() @ rounded(weight, weights, side="right").abs().T + bias.abs()
    )
    limit = LONGEST_SUM * UNIT["float32"] * sizes
    if weights == "bfloat16":
        limit += (
            2 * UNIT["bfloat16"] * expected.abs()
        )  # a sum near the middle of two of its numbers may become either
    assert bool(((found - expected).abs() <= limit).all())


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_greedy_ids_do_not_depend_on_what_else_is_in_the_batch(weights: WeightFormat) -> None:
    engine = Engine(tiny_model("llama"), weights=available(weights))
    alone = [engine.generate([prompt], GREEDY)[0] for prompt in PROMPTS]
    assert engine.generate(PROMPTS, GREEDY, batch_size=3) == alone
    assert engine.generate(PROMPTS, GREEDY) == alone


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_gives_the_ids_of_the_plain_model(shape: str) -> None:
    expected = Engine(tiny_model(shape)).generate(PROMPTS, GREEDY)
    assert Engine(tiny_model(shape), weights="float32").generate(PROMPTS, GREEDY) == expected


def test_an_int8_product_is_that_of_rounded_integers_scaled_back() -> None:
    available("int8")
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(24, 48, generator=generator), torch.randn(5, 48, generator=generator)
    weight[3], x[2] = 0.0, 0.0
    weight[7] *= 1e-3
    x[4] *= 1e4
    bias = torch.randn(24, generator=generator)
    weight_scale = weight.abs().amax(1).clamp(min=1e-30) / 127
    x_scale = x.abs().amax(1).clamp(min=1e-30) / 127
    left = (x / x_scale[:, None]).round().double()
    right = (weight / weight_scale[:, None]).round().double()
    expected = (left @ right.T) * x_scale[:, None] * weight_scale + bias
    product = inference.prepared_weights._int8_product(weight, bias)
    found = product(x)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-4)
    for row in range(5):  # by another kernel
        assert torch.equal(product(x[row : row + 1]), found[row : row + 1])
    exact = F.linear(x, weight, bias)
    assert (found - exact).norm() / exact.norm() < 0.015


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_the_weights_of_layers_are_let_go(weights: WeightFormat) -> None:
    model = tiny_model("llama")
    prepare_weights(model, available(weights))
    assert {name.rpartition(".")[0].rpartition(".")[2] for name, _ in model.named_parameters()} == {
        "embedding",
        "attention_norm",
        "feed_forward_norm",
        "final_norm",
    }


def test_products_that_add_up_wrongly_are_refused_with_what_to_choose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def saturating(weight: torch.Tensor, bias: torch.Tensor | None) -> inference.prepared_weights.Product:
        return lambda x: F.linear(x, weight).clamp(max=32.0)

    monkeypatch.setattr(inference.prepared_weights, "_int8_product", saturating)
    reason = r"weights: int8 was.*64 products of 1 added up to 32\.0 and 32\.0.*float32, bfloat16 or float16"
    with pytest.raises(ConfigError, match=reason):
        Engine(tiny_model(), weights="int8")


def test_a_format_that_this_build_of_torch_lacks_is_refused_or_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*arguments: object) -> inference.prepared_weights.Product:
        raise RuntimeError("Didn't find engine for operation quantized::linear_prepack_fp16\nmore")

    monkeypatch.setattr(inference.prepared_weights, "_float16_product", missing)
    with pytest.raises(
        ConfigError, match=r"weights: float16 .*Didn't find engine.*fp16\); choose float32 or"
    ):
        check_weights("float16", CPU)
    assert fast_weights(CPU) == "float32"
    monkeypatch.setattr(inference.prepared_weights, "_packed_product", missing)
    assert fast_weights(CPU) is None
    assert fast_weights(torch.device("cuda")) is None


def test_float16_weights_lose_less_than_a_thousandth_of_a_nat() -> None:
    ids = torch.tensor([prompt_of(60, seed=seed) for seed in range(8)])
    losses = []
    for weights in (None, available("float16")):
        engine = Engine(tiny_model("qwen3"), weights=weights)
        with torch.inference_mode():
            logits = engine.model(ids)[:, :-1].float()
        losses.append(float(F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())))
    assert math.isclose(losses[0], losses[1], abs_tol=1e-3 * losses[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_cast_once_give_the_scores_of_weights_cast_for_each_product(shape: str) -> None:
    model = tiny_model(shape)
    prompt = PROMPTS[4]
    engine = Engine(model, dtype=torch.bfloat16)

    def scores() -> torch.Tensor:
        return engine.scores([prompt], engine.new_cache(batch_size=1, max_length=len(prompt)))

    expected = scores()
    embedding = model.embedding.weight.clone()
    cast_weights(model, torch.bfloat16)
    assert torch.equal(scores(), expected)
    assert {p.dtype for p in model.blocks.parameters() if p.ndim == 2} == {torch.bfloat16}
    assert torch.equal(model.embedding.weight, embedding)
