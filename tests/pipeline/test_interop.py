"""What the line makes is an ordinary model for transformers: same ids, same logits, same text."""

from pathlib import Path

import pytest
import torch

from pipeline.run import TrainedLine
from tests.small_texts import make_documents
from tokenization.chat_template import render_chat

transformers = pytest.importorskip("transformers")

ATOL = 2e-5
"""float32 rounding of sums in another order, on logits of order 1 to 10."""


@pytest.fixture(scope="module")
def theirs(trained: tuple[Path, TrainedLine]):
    """The tuned checkpoint as transformers opens it, unmodified."""
    directory = trained[1].model_directory
    return (
        transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval(),
        transformers.AutoTokenizer.from_pretrained(directory),
    )


def test_the_logits_are_ours(trained: tuple[Path, TrainedLine], theirs) -> None:
    ours = trained[1].model
    for text in make_documents(3, seed=30):
        ids = torch.tensor([ours.tokenizer.encode(text, add_bos=True)[:64]])
        with torch.no_grad():
            torch.testing.assert_close(ours.engine.model(ids), theirs[0](ids).logits, atol=ATOL, rtol=0)


def test_a_text_has_the_same_ids(trained: tuple[Path, TrainedLine], theirs) -> None:
    tokenizer = trained[1].model.tokenizer
    for text in [*make_documents(20, seed=31), "  indented\n\tcode = [1, 2]  # ▁ “ß” 你好 🙂\r\n"]:
        assert theirs[1](text).input_ids == tokenizer.encode(text, add_bos=True)
        assert theirs[1].decode(tokenizer.encode(text), skip_special_tokens=True) == text


def test_a_conversation_has_the_same_ids(trained: tuple[Path, TrainedLine], theirs) -> None:
    messages = [
        {"role": "system", "content": "Answer like a smith."},
        {"role": "user", "content": " What is iron?\n"},
        {"role": "assistant", "content": "Ore that met fire."},
        {"role": "user", "content": "And slag?"},
    ]
    expected = render_chat(messages, trained[1].model.tokenizer, add_generation_prompt=True).ids
    found = theirs[1].apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert found == expected


def test_greedy_answers_are_the_same_and_stop_at_the_same_place(
    trained: tuple[Path, TrainedLine], theirs
) -> None:
    ours = trained[1].model
    model, tokenizer = theirs
    for number in range(5):
        messages = [{"role": "user", "content": f"What is number {number}?"}]
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        # Which tokens may be said at all is our engine's own rule; here it is given to both.
        forbidden = (~ours.allowed).nonzero().flatten().tolist()
        output = model.generate(
            prompt,
            max_new_tokens=24,
            do_sample=False,
            suppress_tokens=forbidden,
            pad_token_id=tokenizer.pad_token_id,
        )
        text = tokenizer.decode(output[0, prompt.shape[1] :], skip_special_tokens=True)
        assert ours.chat(messages, max_tokens=24, temperature=0.0) == text
