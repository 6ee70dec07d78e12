import math
import shutil

import pytest
import torch
import torch.nn.functional as F

from training import losses
from training.losses import count_target_bytes, count_targets, next_token_loss, summed_cross_entropy


def batch_of(kit, number: int = 4) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(v) for k, v in kit.dataset["train"].batch(range(number)).items()}


def test_the_loss_is_the_sum_of_negative_log_probabilities(kit) -> None:
    model, batch = kit.model().eval(), batch_of(kit)
    probabilities = model(batch["input_ids"]).detach().double().softmax(-1)
    expected = -sum(
        math.log(probabilities[b, t, label])
        for b, row in enumerate(batch["labels"].tolist())
        for t, label in enumerate(row)
        if label != -100
    )
    loss = next_token_loss(model, batch, document_masking=False)
    assert math.isclose(loss.item(), expected, rel_tol=1e-5)


def test_masking_makes_a_packed_row_the_sum_of_its_documents(kit) -> None:
    model = kit.model().eval()
    rows = kit.dataset["train"]
    index = next(
        i for i in range(len(rows)) if len(rows.document_starts(i)) == 1 and rows.document_starts(i)[0] > 4
    )
    batch = {k: torch.from_numpy(v) for k, v in rows.batch([index]).items()}
    start = int(rows.document_starts(index)[0])
    parts = [{k: v[:, a:b] for k, v in batch.items()} for a, b in ((0, start), (start, 32))]
    alone = sum(next_token_loss(model, part, document_masking=False).item() for part in parts)
    assert math.isclose(next_token_loss(model, batch, document_masking=True).item(), alone, rel_tol=1e-5)
    assert not math.isclose(next_token_loss(model, batch, document_masking=False).item(), alone, rel_tol=1e-5)


def test_targets_and_their_bytes_are_counted(kit) -> None:
    batch = batch_of(kit)
    labels = [label for row in batch["labels"].tolist() for label in row if label != -100]
    assert count_targets(batch) == len(labels)
    lengths = torch.tensor(kit.tokenizer.byte_lengths)
    assert count_target_bytes(batch, lengths) == sum(int(lengths[label]) for label in labels)


def features_weight_labels(ignored: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(29, 12, generator=generator).requires_grad_()
    weight = torch.randn(40, 12, generator=generator).requires_grad_()
    labels = torch.randint(0, 40, (29,), generator=generator)
    if ignored == "some":
        labels[::3] = -100
    elif ignored == "all":
        labels[:] = -100
    return features, weight, labels


@pytest.mark.parametrize("ignored", ["none", "some", "all"])
@pytest.mark.parametrize("max_logits", [40, 40 * 7, 10**6])
def test_loss_and_gradients_in_parts_are_those_of_the_whole(
    ignored: str, max_logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "MAX_LOGITS", max_logits)
    features, weight, labels = features_weight_labels(ignored)
    loss = summed_cross_entropy(features, weight, labels)
    (loss * 0.25).backward()
    x, w = (t.detach().double().requires_grad_() for t in (features, weight))
    expected = F.cross_entropy(x @ w.T, labels, reduction="sum")
    (expected * 0.25).backward()
    torch.testing.assert_close(loss.double(), expected, atol=1e-4, rtol=1e-6)
    torch.testing.assert_close(features.grad.double(), x.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weight.grad.double(), w.grad, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(summed_cross_entropy(features, weight, labels), loss, atol=1e-4, rtol=1e-6)


def test_under_autocast_products_are_rounded_and_the_loss_is_not() -> None:
    features, weight, labels = features_weight_labels("some")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = summed_cross_entropy(features, weight, labels)
        whole = F.cross_entropy(F.linear(features, weight).float(), labels, reduction="sum")
    assert loss.dtype == torch.float32
    assert loss.item() != pytest.approx(
        F.cross_entropy(features @ weight.T, labels, reduction="sum").item(), rel=1e-7
    )
    torch.testing.assert_close(loss, whole)
    loss.backward()
    assert features.grad.dtype == weight.grad.dtype == torch.float32


@pytest.mark.filterwarnings("ignore")  # torch warns of the inside of its compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_it_gives_the_same_within_rounding(kit) -> None:
    plain, compiled, batch = kit.model(), kit.model(), batch_of(kit)
    plain.eval()
    compiled.eval()
    compiled.compile_blocks()
    for masked in (False, True):
        results = []
        for model in (plain, compiled):
            model.zero_grad()
            loss = next_token_loss(model, batch, document_masking=masked)
            loss.backward()
            results.append((loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])))
        torch.testing.assert_close(results[1][0], results[0][0], atol=0, rtol=1e-5)
        torch.testing.assert_close(results[1][1], results[0][1], atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_batches_with_other_numbers_of_targets_are_not_compiled_anew() -> None:
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    features, weight, labels = features_weight_labels("none")
    for num_ignored in range(10):
        labels[:num_ignored] = -100
        compiled = summed_cross_entropy(features, weight, labels, compiled=True)
        torch.testing.assert_close(compiled, summed_cross_entropy(features, weight, labels))
    assert counters["stats"]["unique_graphs"] <= 2  # the first size, and then any size
