import math

import torch

from training.losses import count_target_bytes, count_targets, next_token_loss


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
