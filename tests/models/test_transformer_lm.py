import pytest
import torch
import torch.nn.functional as F
from model_shapes import ATOL, MAIN_SHAPES, SHAPES, random_ids, random_model

from core.errors import ConfigError, DataError
from core.training_config import ModelConfig
from models.kv_cache import KVCache
from models.recompute import Recompute
from models.transformer_lm import TransformerLM, create_model_from_config


def packed_positions(*lengths: int) -> torch.Tensor:
    return torch.cat([torch.arange(length) for length in lengths])[None]


@pytest.mark.parametrize("shape", SHAPES)
def test_changing_a_token_changes_no_logits_before_it(shape: str) -> None:
    config = SHAPES[shape]
    model, ids = random_model(config), random_ids(config, 2, 24)
    before = model(ids)
    for t in (0, 7, 23):
        changed = ids.clone()
        changed[:, t] = (changed[:, t] + 1) % config.vocab_size
        after = model(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert not torch.allclose(after[:, t], before[:, t])


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_of_packed_documents_are_those_of_each_document_alone(shape: str) -> None:
    config = SHAPES[shape]
    model, lengths = random_model(config), (1, 11, 1, 20, 7)
    ids = random_ids(config, 2, sum(lengths))
    # The second row has other borders: each row has a mask of its own.
    other = (20, 20)
    position_ids = torch.cat([packed_positions(*lengths), packed_positions(*other)])
    packed = model(ids, position_ids)
    for row, parts in ((0, lengths), (1, other)):
        begin = 0
        for length in parts:
            alone = model(ids[row : row + 1, begin : begin + length])
            torch.testing.assert_close(packed[row, begin : begin + length], alone[0], atol=ATOL, rtol=0)
            begin += length


@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_the_loss_of_one_document_has_no_gradient_in_the_others(shape: str) -> None:
    config = SHAPES[shape]
    model, ids = random_model(config), random_ids(config, 1, 30)
    embedded: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.embedding.register_forward_hook(keep)
    logits = model(ids, packed_positions(10, 12, 8))
    F.cross_entropy(logits[0, 10:22], ids[0, 11:23]).backward()
    gradient = embedded[0].grad
    assert gradient is not None
    assert torch.count_nonzero(gradient[0, :10]) == 0
    assert torch.count_nonzero(gradient[0, 22:]) == 0
    assert torch.all(gradient[0, 10:22].abs().sum(dim=-1) > 0)


@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_positions_of_a_single_document_are_the_same_as_no_positions(shape: str) -> None:
    config = SHAPES[shape]
    model, ids = random_model(config), random_ids(config, 2, 20)
    positions = packed_positions(20).expand(2, -1)
    torch.testing.assert_close(model(ids, positions), model(ids), atol=ATOL, rtol=0)


def test_forward_is_the_head_over_the_features() -> None:
    config = SHAPES["qwen3-untied"]
    model, ids = random_model(config), random_ids(config, 2, 9)
    features = model.features(ids)
    assert features.shape == (2, 9, config.hidden_size)
    assert torch.equal(model.logits(features), model(ids))
    # A loss in chunks scores only some of the positions.
    torch.testing.assert_close(model.logits(features[:, 3:5]), model(ids)[:, 3:5], atol=ATOL, rtol=0)


@pytest.mark.parametrize("mode", ["selective", "full"])
@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_gradient_checkpointing_gives_equal_gradients_with_dropout_and_documents(
    shape: str, mode: Recompute
) -> None:
    config = SHAPES[shape].replace(dropout=0.2)
    ids = random_ids(config, 2, 16)
    gradients = []
    for each in ("none", mode):
        model = random_model(config).train()
        model.gradient_checkpointing = each
        torch.manual_seed(3)
        model(ids, packed_positions(9, 7).expand(2, -1)).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name


@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_dropout_acts_while_training_only(shape: str) -> None:
    config = SHAPES[shape].replace(dropout=0.3)
    model, ids = random_model(config), random_ids(config, 1, 12)
    assert torch.equal(model(ids), model(ids))
    assert torch.equal(model(ids), random_model(SHAPES[shape])(ids))
    model.train()
    assert not torch.allclose(model(ids), model(ids))


@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_autocast_to_bfloat16_stays_near_float32_and_trains(shape: str) -> None:
    config = SHAPES[shape]
    model = create_model_from_config(config, seed=0)
    ids, positions = random_ids(config, 2, 32), packed_positions(20, 12).expand(2, -1)
    exact = model(ids, positions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(ids, positions)
    assert rounded.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits: 2^-8 of the largest logit, a few times over through two layers.
    torch.testing.assert_close(rounded.float(), exact, atol=4 * 2**-8 * exact.abs().max().item(), rtol=0)
    F.cross_entropy(rounded.float().flatten(0, 1), ids.flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_a_model_cast_to_bfloat16_runs_with_and_without_a_cache(shape: str) -> None:
    config = SHAPES[shape]
    model, ids = create_model_from_config(config, seed=0).to(torch.bfloat16), random_ids(config, 2, 16)
    cache = KVCache(config, batch_size=2, max_length=16, dtype=torch.bfloat16)
    with torch.inference_mode():
        whole = model(ids)
        model(ids[:, :15], cache=cache)
        last = model(ids[:, 15:], cache=cache)
    assert whole.dtype == torch.bfloat16
    torch.testing.assert_close(last[:, 0], whole[:, -1], atol=0.02, rtol=0)


@pytest.mark.parametrize("shape", MAIN_SHAPES)
@pytest.mark.parametrize("packed", [False, True])
def test_the_forward_is_one_graph_for_the_compiler(shape: str, packed: bool) -> None:
    config = SHAPES[shape].replace(num_layers=1)
    model, ids = random_model(config), random_ids(config, 2, 16)
    positions = packed_positions(9, 7).expand(2, -1) if packed else None
    torch.compiler.reset()
    # The "eager" backend captures the graph and needs no C++ compiler; fullgraph makes any break an error.
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids, positions), model(ids, positions), atol=ATOL, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_meta_device_builds_a_model_without_memory(shape: str) -> None:
    with torch.device("meta"):
        model = TransformerLM(SHAPES[shape])
    assert all(parameter.is_meta for parameter in model.parameters())
    assert list(model.buffers()) == []  # nothing that to_empty() would leave as garbage


def test_a_tied_head_is_no_tensor_of_its_own() -> None:
    tied, untied = (
        create_model_from_config(SHAPES["qwen3"].replace(tie_word_embeddings=tie), seed=0)
        for tie in (True, False)
    )
    assert set(untied.state_dict()) - set(tied.state_dict()) == {"head.weight"}


def test_more_tokens_than_the_context_are_refused_with_both_numbers() -> None:
    config = SHAPES["qwen3"]
    with pytest.raises(DataError, match=r"65 tokens are longer than the model's context of 64 tokens"):
        random_model(config)(random_ids(config, 1, 65))


def test_a_null_vocabulary_is_refused_with_the_setting_and_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"model\.vocab_size is null.*tokenizer\.vocab_size"):
        create_model_from_config(ModelConfig())


def test_an_overfitted_model_repeats_its_row() -> None:
    config = SHAPES["qwen3"]
    model, ids = create_model_from_config(config, seed=0), random_ids(config, 1, 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(50):
        loss = F.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    assert torch.equal(model(ids[:, :-1])[0].argmax(-1), ids[0, 1:])
