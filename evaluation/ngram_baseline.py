"""What counting alone achieves: a trigram model in the place of the trained one. Knows token ids and nothing of tasks.

Shapes: B rows, T tokens, N positions, V tokens of the vocabulary.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.language_model import LanguageModel

Ids = NDArray[np.int64]

MAX_TOKENS = 10_000_000
"""So many tokens are counted at most: sorting their trigrams takes about 3 s and 300 MB."""


def ngram_model(model: LanguageModel, ids: Ids, *, vocab_size: int, counted: str) -> LanguageModel:
    """A model with the tokenizer of `model` that knows how often two and three tokens stood together in `ids`.

    Its probabilities are interpolated as Witten and Bell (1991) do it: after a history h that was seen n times with
    t different tokens behind it, p(w | h) = (count(h w) + t p(w | shorter h)) / (n + t); of single tokens,
    (count(w) + 1) / (n + V).

    Args:
        ids: The text, (N,) int64.
        vocab_size: V, above each id.
        counted: What `ids` are, for people.
    """
    unigrams = (np.bincount(ids, minlength=vocab_size) + 1) / (len(ids) + vocab_size)
    bigrams = _Table(ids[:-1], ids[1:], vocab_size)
    trigrams = _Table(ids[:-2] * vocab_size + ids[1:-1], ids[2:], vocab_size)

    def features(input_ids: Tensor) -> Tensor:
        """The last two tokens at each position, (B, T, 2); at the first, that token twice."""
        before = torch.cat((input_ids[:, :1], input_ids[:, :-1]), dim=1)
        return torch.stack((before, input_ids), dim=-1)

    def logits(features: Tensor) -> Tensor:
        """(N, 2) to the logarithms of the probabilities, (N, V)."""
        pairs = features.cpu().numpy()
        found = np.tile(unigrams, (len(pairs), 1))
        for row, (before, last) in enumerate(pairs):
            bigrams.mix_in(found[row], int(last))
            trigrams.mix_in(found[row], int(before) * vocab_size + int(last))
        return torch.from_numpy(np.log(found))

    def complete(texts: Sequence[str], max_tokens: int) -> list[str]:
        """Empty: counted text has no answer to a question, and guessing on costs time for nothing."""
        return ["" for _ in texts]

    return dataclasses.replace(
        model,
        name=f"trigrams of {counted}",
        fingerprint="",
        features=features,
        logits=logits,
        complete=complete,
        device=torch.device("cpu"),
        chat_model=None,
        num_parameters=len(bigrams.tokens) + len(trigrams.tokens) + vocab_size,
    )


class _Table:
    """How often each token stood behind each history, sorted by history.

    Attributes:
        tokens: (K,) the tokens behind all histories, those of one history together.
    """

    def __init__(self, histories: Ids, followers: Ids, vocab_size: int) -> None:
        # Below 2**63 up to V = 2**21.
        keys, self._counts = np.unique(histories * vocab_size + followers, return_counts=True)
        self.tokens = keys % vocab_size
        self._histories, self._starts = np.unique(keys // vocab_size, return_index=True)
        self._ends = np.append(self._starts[1:], len(keys))

    def mix_in(self, probabilities: NDArray[Any], history: int) -> None:
        """Make (V,) probabilities without the history those with it, in place; nothing where it was never seen."""
        place = int(np.searchsorted(self._histories, history))
        if place == len(self._histories) or self._histories[place] != history:
            return
        part = slice(self._starts[place], self._ends[place])
        counts = self._counts[part]
        total, different = int(counts.sum()), len(counts)
        probabilities *= different / (total + different)
        probabilities[self.tokens[part]] += counts / (total + different)
