"""How a model in training goes on from fixed prompts, at each evaluation. Touches no random state and no weight."""

import contextlib
import itertools
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from core.seeds import derive_seed
from data_processing.reports.shown import one_line
from models.kv_cache import KVCache
from tokenization.tokenizer import Tokenizer
from training.batches import check_batch
from training.hooks import JsonlMetrics
from training.losses import IGNORED_LABEL
from training.run_log import SAMPLES_FILE
from training.step_report import StepReport
from training.trainer import Trainer

logger = logging.getLogger(__name__)

PROMPT_TOKENS = 16
NEW_TOKENS = 24
"""Two samples are 48 passes of one row, about what an evaluation of 50 batches costs where memory is the limit and much
less elsewhere. A number and not a time, so that several processes do the same."""


class WriteSamples:
    """At each evaluation: how the model goes on, into `samples.jsonl`, and the first of it into the log.

    Args:
        batches: Held-out ones; the prompts are the beginnings of the first rows, or the questions of conversations.
    """

    def __init__(self, trainer: Trainer, tokenizer: Tokenizer, batches: Iterable[Any]) -> None:
        self._tokenizer = tokenizer
        self._prompts = first_prompts(batches, trainer.config.num_samples, seed=trainer.config.seed)
        # A spread model computes in all processes or in none; one of them writes.
        self._file = (
            JsonlMetrics(trainer.output_dir / SAMPLES_FILE, first_step=trainer.progress.step)
            if trainer.world.is_main
            else None
        )

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        """Write samples when it is time."""
        if report.step % trainer.config.eval_steps and report.step != trainer.total_steps:
            return
        for number, prompt in enumerate(self._prompts):
            ids = continue_greedily(trainer, prompt, self._tokenizer)
            if self._file is None:
                continue
            said = {"prompt": self._tokenizer.decode(prompt), "continuation": self._tokenizer.decode(ids)}
            self._file.write(report.step, said)
            if number == 0:
                shown = f"{one_line(said['prompt'], 40)}⟶{one_line(said['continuation'], 50)}"
                logger.info("step %d: %s", report.step, shown)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def first_prompts(batches: Iterable[Any], number: int, *, seed: int) -> list[list[int]]:
    """The ids of the first prompts of `batches`: where answers are learned, what stands before the first of a row."""
    prompts: list[list[int]] = []
    # A shuffled loader would draw from the caller's random state, and other prompts each time.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "samples"))
        for raw in batches:
            batch = check_batch(raw)
            for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
                if len(prompts) == number:
                    return prompts
                prompts += [_prompt(ids, labels)]
    return prompts


def _prompt(ids: Sequence[int], labels: Sequence[int]) -> list[int]:
    # A label is the token after: the first that is learned follows the prompt.
    unlearned = len(list(itertools.takewhile(lambda label: label == IGNORED_LABEL, labels)))
    length = unlearned + 1 if unlearned else min(PROMPT_TOKENS, len(ids) // 2)
    return list(ids[: min(length, len(ids) - 1)])


@torch.no_grad()
def continue_greedily(trainer: Trainer, prompt: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """The likeliest next tokens, one after the other, to the end of a text or for `NEW_TOKENS`."""
    model, device = trainer.model, trainer.device_manager.device
    num_new = min(NEW_TOKENS, model.config.max_position_embeddings - len(prompt))
    products = trainer.compute_dtype
    cache = KVCache(
        model.config,
        batch_size=1,
        max_length=len(prompt) + num_new,
        device=device,
        dtype=model.embedding.weight.dtype if products == torch.float32 else products,
    )
    found: list[int] = []
    tokens = torch.tensor([prompt], device=device)
    model.eval()
    with contextlib.ExitStack() as stack:
        # Each length of the cache is a shape of its own: compiled blocks would be compiled for every one of them.
        if model.is_compiled:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(trainer.device_manager.autocast(products))
        for _ in range(num_new):
            logits = model.logits(model.features(tokens, cache=cache)[0, -1])
            token = int(logits[: tokenizer.vocab_size].argmax())
            if token in (tokenizer.eos_id, tokenizer.end_id):
                break
            found.append(token)
            tokens = torch.tensor([[token]], device=device)
    model.train()
    return found
