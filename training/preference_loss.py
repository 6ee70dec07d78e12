"""Learning from pairs of answers: how likely a model finds each, against one to compare with. Knows no files.

Shapes: B rows of pairs, T tokens of a half (all that is chosen in the first, what is rejected in the second), S
answers. A row has at most T pairs, so what is known of each pair stands in (B, T).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from core.device_manager import DeviceManager
from core.setting_names import named
from data_processing.rows.packing import Rows, restarting_positions, shift_labels
from data_processing.rows.pair_packing import pair_columns
from models.attention import document_begins
from models.transformer_lm import TransformerLM
from training.batches import to_tensors
from training.losses import IGNORED_LABEL, Batch, label_log_probabilities


def dpo(margin: Tensor, beta: float) -> Tensor:
    """-ln sigmoid(beta x margin) (Rafailov et al. 2023, equation 7)."""
    return -F.logsigmoid(beta * margin)


def ipo(margin: Tensor, beta: float) -> Tensor:
    """(margin - 1 / (2 beta))² (Azar et al. 2023, equation 17): a margin that is large enough is not made larger."""
    return (margin - 1.0 / (2.0 * beta)).square()


class PreferenceObjective(NamedTuple):
    """What is made of a pair's margin, and whether that counts each token or whole answers."""

    loss: Callable[[Tensor, float], Tensor]
    """From margins in nats and beta to losses of the same shape."""
    per_token: bool


PREFERENCE_LOSSES: dict[str, PreferenceObjective] = {
    "dpo": PreferenceObjective(dpo, per_token=False),
    "dpo_per_token": PreferenceObjective(dpo, per_token=True),
    "ipo": PreferenceObjective(ipo, per_token=False),
    "ipo_per_token": PreferenceObjective(ipo, per_token=True),
}
"""Name -> objective. Per token, an answer's gain over the model to compare with is divided by its number of tokens, so
that long answers are not preferred for their length (Lambert et al. 2024; IPO's authors did so, by TRL's account)."""


class Judged(NamedTuple):
    """What a model thinks of pairs, (B, T) each; 0 where there is no pair."""

    gains: tuple[Tensor, Tensor]
    """Of what is chosen and what is rejected: ln of its probability, minus that under the model to compare with."""
    num_tokens: tuple[Tensor, Tensor]
    is_pair: Tensor
    """1.0 where there is one that counts."""


@dataclasses.dataclass(frozen=True)
class PreferenceLoss:
    """The sum over pairs of what an objective makes of each; see `training.trainer.LossFunction`.

    Args:
        objective: In `PREFERENCE_LOSSES`.
        beta: How much a nat of margin counts, above 0.
    """

    objective: str
    beta: float

    def __call__(self, model: TransformerLM, batch: Batch, *, document_masking: bool) -> Tensor:
        """() float32, in what the objective measures; answers never see each other, whatever `document_masking` is."""
        judged = judge_pairs(model, batch)
        return (self.losses(judged) * judged.is_pair).sum()

    def losses(self, judged: Judged) -> Tensor:
        """Of each pair, (B, T)."""
        objective = named(
            self.objective,
            PREFERENCE_LOSSES,
            setting="preference.loss",
            place="training.preference_loss.PREFERENCE_LOSSES",
        )
        return objective.loss(margins(judged, per_token=objective.per_token), self.beta)


def whole_pairs(rows: int, context: int) -> Batch:
    """A micro-batch of `rows` rows whose halves are one answer each, every token of it judged, (rows, 2 context)."""
    ids = np.arange(rows * 2 * context).reshape(rows, 2 * context) % 8
    starts = np.arange(0, ids.size, context)
    batch = {
        "input_ids": ids,
        "labels": ids,
        "position_ids": restarting_positions((rows, 2 * context), starts),
    }
    return to_tensors(
        pair_columns(batch, flat_starts=starts, references=np.zeros(len(starts), dtype=np.float32))
    )


def margins(judged: Judged, *, per_token: bool) -> Tensor:
    """How much more is gained by what is chosen than by what is rejected, (B, T) in nats."""
    chosen, rejected = judged.gains
    if per_token:
        chosen, rejected = (
            gain / number.clamp(min=1.0) for gain, number in zip(judged.gains, judged.num_tokens, strict=True)
        )
    return chosen - rejected


def judge_pairs(model: TransformerLM, batch: Batch) -> Judged:
    """What `model` thinks of the pairs in a batch of `data_processing.rows.pair_packing.pair_columns`."""
    halves = {
        key: tensor.reshape(2 * len(tensor), -1)
        for key, tensor in batch.items()
        if key in ("input_ids", "labels", "position_ids", "answer_labels", "references")
    }
    # (2 B, T) from here on: a row of what is chosen, then its row of what is rejected.
    answer = document_begins(halves["position_ids"]).cumsum(dim=1) - 1

    def per_answer(values: Tensor) -> Tensor:
        return torch.zeros(answer.shape, device=values.device).scatter_add(1, answer, values.float())

    features = model.features(halves["input_ids"], halves["position_ids"], documents=batch.get("documents"))
    labels = halves["answer_labels"]
    log_probabilities = label_log_probabilities(
        features.flatten(0, 1), model.head_weight, labels.flatten()
    ).view_as(labels)
    gains = per_answer(log_probabilities) - per_answer(halves["references"])
    num_tokens = per_answer(labels != IGNORED_LABEL)
    counts = per_answer(halves["labels"] != IGNORED_LABEL)[::2]
    return Judged((gains[::2], gains[1::2]), (num_tokens[::2], num_tokens[1::2]), counts)


PREFERENCE_METRICS = ("validation/preference_accuracy", "validation/preference_margin")


def preference_measures(model: TransformerLM, batch: Batch, *, document_masking: bool) -> Tensor:
    """The sums over pairs of `PREFERENCE_METRICS`, (2,) float32: 1 where what is chosen gained more than what is
    rejected (a half where both gained the same, as before the first step), and the margin in nats."""
    judged = judge_pairs(model, batch)
    margin = margins(judged, per_token=False)
    right = (torch.sign(margin) + 1.0) / 2.0
    return torch.stack([(right * judged.is_pair).sum(), (margin * judged.is_pair).sum()])


@torch.no_grad()
def judge_rows(model: TransformerLM, rows: Rows, device_manager: DeviceManager) -> NDArray[np.float32]:
    """ln of the probability of each answer in rows of pairs, (S,): what is compared with while tuning.

    In float32, whatever tuning computes in: it is asked once.

    Args:
        model: On the device, in evaluation mode.
    """
    device = device_manager.device
    shape = rows.input_ids.shape
    row_of_start = np.repeat(np.arange(shape[0]), rows.start_counts)
    flat_starts = row_of_start * shape[1] + rows.starts
    assert rows.labels is not None
    positions = restarting_positions((shape[0], shape[1]), flat_starts)
    labels = shift_labels(rows.labels.astype(np.int64))
    ids = rows.input_ids.astype(np.int64)
    # A half is as long as what the model reads at a time.
    half_ids, half_labels, half_positions = (
        torch.from_numpy(values).view(2 * shape[0], -1).to(device) for values in (ids, labels, positions)
    )
    features = model.features(half_ids, half_positions)
    found = label_log_probabilities(features.flatten(0, 1), model.head_weight, half_labels.flatten())
    sums = np.add.reduceat(found.double().cpu().numpy(), flat_starts)
    return sums.astype(np.float32)
