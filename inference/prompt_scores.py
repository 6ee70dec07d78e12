"""How well a model expects the tokens of a prompt, read piece by piece. Knows token ids: no text and no thread.

Shapes: T tokens of a piece, V tokens of the vocabulary.
"""

from dataclasses import dataclass

import torch

from core.errors import DataError
from inference.continuous_batch import PREFILL_TOKENS
from inference.engine import Engine
from inference.sampling import log_probabilities


@dataclass(frozen=True)
class PromptToScore:
    """A prompt, and how many of the likeliest tokens are to be told beside each of its own."""

    prompt: tuple[int, ...]
    num_likeliest: int = 0


@dataclass(frozen=True)
class PromptScores:
    """Of each token of a prompt: ln p of it after those before it (temperature 1), and (id, ln p) of the likeliest
    tokens there, the likeliest first. Nothing comes before the first token: its entries are None and empty."""

    log_probabilities: tuple[float | None, ...]
    likeliest: tuple[tuple[tuple[int, float], ...], ...]


class PromptReading:
    """A prompt on its way through the model. `step` it until it is done; in between, others can have the model."""

    def __init__(self, engine: Engine, asked: PromptToScore) -> None:
        """
        Raises:
            DataError: as `Engine.check_prompt`.
        """
        engine.check_prompt(asked.prompt)
        self._engine = engine
        self._asked = asked
        self._cache = engine.new_cache(batch_size=1, max_length=len(asked.prompt))
        self._log_p: list[float | None] = [None]
        self._likeliest: list[tuple[tuple[int, float], ...]] = [()]

    @torch.inference_mode()
    def step(self) -> PromptScores | None:
        """Read up to `PREFILL_TOKENS` tokens; what the model expects of all, when they were the last.

        Raises:
            DataError: the model's scores are no numbers.
        """
        prompt = self._asked.prompt
        begin = len(self._log_p) - 1
        # The last token predicts what is no longer asked for.
        piece = prompt[begin : min(begin + PREFILL_TOKENS, len(prompt) - 1)]
        if piece:
            logits = self._engine.all_scores(piece, self._cache)
            targets = torch.tensor(prompt[begin + 1 : begin + 1 + len(piece)], device=logits.device)
            chosen, ids, log_p = log_probabilities(logits, targets, self._asked.num_likeliest)
            if not bool(torch.isfinite(chosen).all()):
                raise DataError(
                    "the model's scores are NaN or infinite: its weights are damaged or it diverged in training; use "
                    "another checkpoint"
                )
            self._log_p += chosen.tolist()
            self._likeliest += [
                tuple(zip(*row, strict=True)) for row in zip(ids.tolist(), log_p.tolist(), strict=True)
            ]
        if len(self._log_p) < len(prompt):
            return None
        return PromptScores(tuple(self._log_p), tuple(self._likeliest))
