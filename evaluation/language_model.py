"""A model as scoring needs it, whoever made it: text to ids, ids to scores of the next token. Knows no task.

Shapes: B rows, T tokens, N positions, D features, V tokens of the vocabulary.
"""

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.device_manager import DeviceManager
from core.errors import ConfigError, MismatchError, MissingDependencyError
from core.files import sha256_json
from core.manifest import describe_files
from inference.chat import ChatModel
from inference.model_directory import find_intact_model

logger = logging.getLogger(__name__)

MODEL_FILES = ("config.json", "*.safetensors", "tokenizer.json", "tokenizer.model")
"""What decides the scores of a model directory."""


@dataclass(frozen=True)
class LanguageModel:
    """What a model can do, as functions.

    Attributes:
        name: Where it is from, for people.
        fingerprint: Changes with its weights, its configuration and its tokenizer.
        context: Most tokens of a row.
        start_ids: What every text begins with, as the model was trained; may be empty.
        boundary_id: What the first token of a text is predicted from where `start_ids` is empty.
        encode: The ids of each text, without special tokens.
        features: (B, T) int64 to (B, T, D); a position sees those before it and none behind it, so that rows can be
            padded at their ends.
        logits: (N, D) to the scores (N, V) of what follows each position.
        complete: The likeliest continuation of each text, of at most so many tokens.
        num_parameters: Parameters, tied ones once.
        chat_model: The same model for conversations; None where this project does not know its turns.
    """

    name: str
    fingerprint: str
    context: int
    start_ids: tuple[int, ...]
    boundary_id: int
    encode: Callable[[Sequence[str]], list[list[int]]]
    features: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor], Tensor]
    complete: Callable[[Sequence[str], int], list[str]]
    device: torch.device
    num_parameters: int = 0
    chat_model: ChatModel | None = None


def load_language_model(path: str | Path, *, device: str = "auto") -> LanguageModel:
    """The model that `path` stands for: a run, a training stage, or a model directory of this project or another.

    A directory whose architecture or tokenizer this project cannot represent is opened by transformers, from its
    files alone: nothing is downloaded, no code of it is run and no pickle is read.

    Raises:
        DataError: there is no model.
        CorruptArtifactError: a file of it is damaged.
        MismatchError: tokenizer and model do not belong together.
        ConfigError: the model cannot be opened here, nor by transformers.
        MissingDependencyError: only transformers can open it, and it is not installed.
        DeviceError: the device asked for is not there.
    """
    try:
        return of_chat_model(ChatModel.load(path, device=device))
    except MismatchError:
        raise
    except ConfigError as error:
        device_manager = DeviceManager(device)  # a wrong device is no reason to try another library
        directory, _ = find_intact_model(path)
        logger.info("%s: opened by transformers, because here %s", directory, error)
        return _from_transformers(directory, device_manager.device, because=str(error))


def of_chat_model(chat_model: ChatModel, *, fingerprint: str | None = None) -> LanguageModel:
    """A model of this project. Each text begins with `<s>`, except where that token also ends texts, as GPT-2's."""
    engine, tokenizer = chat_model.engine, chat_model.tokenizer
    model = engine.model
    mixed = engine.dtype != torch.float32

    def precision() -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(engine.device.type, dtype=engine.dtype) if mixed else contextlib.nullcontext()

    def features(input_ids: Tensor) -> Tensor:
        with precision():
            return model.features(input_ids)

    def logits(features: Tensor) -> Tensor:
        with precision():
            return model.logits(features)

    def complete(texts: Sequence[str], max_tokens: int) -> list[str]:
        prompts = [
            _end_of(tokenizer.encode(text, add_bos=True), engine.context - max_tokens) for text in texts
        ]
        settings = chat_model.settings(max_tokens=max_tokens, temperature=0.0)
        completions = engine.generate(prompts, settings, allowed=chat_model.allowed)
        return [tokenizer.decode(completion.ids) for completion in completions]

    return LanguageModel(
        name=str(chat_model.directory or "the model"),
        fingerprint=fingerprint or (model_fingerprint(chat_model.directory) if chat_model.directory else ""),
        context=engine.context,
        start_ids=() if tokenizer.bos_id == tokenizer.eos_id else (tokenizer.bos_id,),
        boundary_id=tokenizer.bos_id,
        encode=tokenizer.encode_batch,
        features=features,
        logits=logits,
        complete=complete,
        device=engine.device,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        chat_model=chat_model,
    )


def _end_of(ids: list[int], limit: int) -> list[int]:
    """The last of `ids`, so that an answer has room; what a text begins with stays in front."""
    return ids if len(ids) <= limit else [ids[0], *ids[len(ids) - max(limit, 1) + 1 :]]


def _from_transformers(directory: Path, device: torch.device, *, because: str) -> LanguageModel:
    """The model in a directory, opened by transformers; each text begins as its tokenizer begins one."""
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        raise MissingDependencyError(
            f"{directory}: this project cannot open it ({because}), and transformers is not installed; "
            "pip install -e '.[transformers]'"
        ) from None
    try:
        # Said outright: left unsaid, transformers asks on the terminal whether the directory's own code may run.
        safely = {"local_files_only": True, "trust_remote_code": False}
        tokenizer: Any = AutoTokenizer.from_pretrained(directory, **safely)
        model: Any = AutoModelForCausalLM.from_pretrained(
            directory, **safely, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, ImportError, NotImplementedError) as error:
        raise ConfigError(
            f"{directory}: neither this project ({because}) nor transformers ({' '.join(str(error).split())[:300]}) "
            "can open it; name the directory of a causal language model with its tokenizer"
        ) from None
    model = model.to(device).eval()

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    def complete(texts: Sequence[str], max_tokens: int) -> list[str]:
        found = []
        for text in texts:
            ids = _end_of([*start_ids, *encode([text])[0]], context - max_tokens)
            given = torch.tensor([ids], device=device)
            whole = model.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=max_tokens,
                do_sample=False,
                pad_token_id=boundary_id,
            )
            found.append(tokenizer.decode(whole[0, len(ids) :], skip_special_tokens=True))
        return found

    boundary_id = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), 0)
    start_ids = tuple(i for i in tokenizer("")["input_ids"] if i != tokenizer.eos_token_id)
    context = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    return LanguageModel(
        name=str(directory),
        fingerprint=model_fingerprint(directory),
        context=min(int(context), 1 << 20),
        start_ids=start_ids,
        boundary_id=boundary_id,
        encode=encode,
        features=lambda input_ids: model(input_ids, use_cache=False).logits,
        logits=lambda features: features,
        complete=complete,
        device=device,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def model_fingerprint(directory: Path) -> str:
    """What changes with the weights, the configuration and the tokenizer of a model directory."""
    files = describe_files(directory, [file for pattern in MODEL_FILES for file in directory.glob(pattern)])
    return sha256_json([[file["path"], file["sha256"]] for file in files])
