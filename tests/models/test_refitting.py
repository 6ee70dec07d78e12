import pytest
import torch

from core.errors import MismatchError
from models.refitting import refitted
from models.transformer_lm import create_model_from_config
from tests.models.test_lora import GPT2, IDS, SHAPE


@pytest.mark.parametrize(
    "shape", [SHAPE, SHAPE.replace(tie_word_embeddings=False), GPT2], ids=["tied", "head", "gpt2"]
)
def test_more_tokens_and_fewer_positions_leave_what_was_computed_as_it_was(shape) -> None:
    model = create_model_from_config(shape, seed=1).eval()
    other = refitted(model, shape.replace(vocab_size=70, max_position_embeddings=12, dropout=0.2), seed=3)
    assert other.config.max_position_embeddings == 12
    scores = other(IDS)
    torch.testing.assert_close(scores[..., :64], model(IDS))
    # Of the new ones none is far likelier than tokens are on the average.
    new = scores[..., 64:] - scores[..., :64].mean(dim=-1, keepdim=True)
    assert new.abs().max() < scores[..., :64].std() * 2
    rows = other.embedding.weight[64:]
    assert len({tuple(row.tolist()) for row in rows}) == 6  # rows that began equal would learn alike


def test_the_same_shape_gives_the_same_model_and_a_seed_the_same_rows() -> None:
    model = create_model_from_config(SHAPE, seed=1)
    assert refitted(model, SHAPE, seed=3) is model
    more = SHAPE.replace(vocab_size=65)
    one, two, other = (refitted(model, more, seed=seed).embedding.weight[64] for seed in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 64}, "hidden_size 32 and 64"),
        ({"vocab_size": 60}, "64 tokens do not go into 60"),
        ({"max_position_embeddings": 32}, "a context of 16 tokens is no 32"),
        ({"rope_theta": 5000.0}, "rope_theta 10000.0 and 5000.0"),
    ],
)
def test_what_does_not_fit_is_named(changes, message: str) -> None:
    with pytest.raises(MismatchError, match=f"the weights do not fit into that shape: {message}"):
        refitted(create_model_from_config(SHAPE, seed=1), SHAPE.replace(**changes), seed=3)
