"""A model that is there already as the beginning of a training: where it is, and what of the settings it decides.

Knows directories of models and the configuration, no stage.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import ConfigError, MismatchError
from core.files import sha256_file, sha256_json
from core.json_files import read_json_object
from core.training_config import ModelConfig, PipelineConfig
from inference.model_directory import find_model
from models.counting import vocabulary_of
from models.hf_layout import load_model, weight_files
from models.hf_settings import CONFIG_FILE, model_config_from_hf
from models.refitting import MAY_DIFFER, refitted
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


def shape_of(directory: Path) -> ModelConfig:
    """The shape of the model in a directory.

    Raises:
        ConfigError: it is none that this project can represent; the message says what of it.
    """
    return model_config_from_hf(
        read_json_object(directory / CONFIG_FILE), origin=str(directory / CONFIG_FILE)
    )


def settle_initial_model(config: PipelineConfig) -> tuple[PipelineConfig, list[str]]:
    """The configuration in which shape and tokenizer are those of `training.init_from`, and what is to be said of it.

    Raises:
        ConfigError: it cannot be represented, its tokenizer is no use, or a plan is to choose another shape.
        MismatchError: another tokenizer is named, or a longer context than it has.
        DataError: there is no model.
    """
    if config.training.init_from is None:
        return config, []
    if config.run.time_budget is not None:
        raise ConfigError(
            f"run.time_budget={config.run.time_budget} would choose a shape, and training.init_from has one; set "
            "training.time_budget_seconds instead"
        )
    directory = find_model(config.training.init_from)
    shape, tokenizer = shape_of(directory), Tokenizer.from_file(config.tokenizer.path or directory)
    if config.tokenizer.path is not None:
        own = Tokenizer.from_file(directory)
        if own.fingerprint != tokenizer.fingerprint:
            raise MismatchError(
                f"tokenizer.path={str(config.tokenizer.path)!r} is not the tokenizer of training.init_from {directory} "
                f"(fingerprint {tokenizer.fingerprint[:12]}, expected {own.fingerprint[:12]}); set it to null"
            )
    asked = config.model
    context = shape.max_position_embeddings
    if "max_position_embeddings" in asked.model_fields_set:
        context = asked.max_position_embeddings
        if context > shape.max_position_embeddings:
            raise MismatchError(
                f"model.max_position_embeddings={context}: the model in {directory} has a context of "
                f"{shape.max_position_embeddings} tokens; set it to that or less"
            )
    fitted = room_for(tokenizer, shape).replace(
        max_position_embeddings=context,
        **({"dropout": asked.dropout} if "dropout" in asked.model_fields_set else {}),
    )
    values, wished = fitted.to_dict(), asked.to_dict()
    overruled = [
        f"{name} {wished[name]}"
        for name in sorted(asked.model_fields_set - MAY_DIFFER)
        if wished[name] != values[name] and wished[name] is not None
    ]
    notes = [
        f"pretraining goes on from {directory} ({shape.architecture}, {shape.num_layers} x {shape.hidden_size}) with "
        f"its tokenizer, in rows of {context} tokens"
        + (f"; of the settings these give way to its shape: {', '.join(overruled)}" if overruled else "")
    ]
    config = config.replace(
        model=values,
        tokenizer={"path": str(config.tokenizer.path or directory)},
        data={"tokenizer_vocab_size": tokenizer.vocab_size},
    )
    return config, notes


def room_for(tokenizer: Tokenizer, shape: ModelConfig) -> ModelConfig:
    """`shape` with a row of the embedding for each token. A tokenizer from elsewhere has the tokens of chats behind its
    own, which its model has never seen."""
    return shape.replace(vocab_size=max(vocabulary_of(shape), tokenizer.vocab_size))


def load_initial_model(directory: Path, shape: ModelConfig, *, seed: int) -> TransformerLM:
    """The model in `directory`, refitted to `shape`.

    Raises:
        MismatchError: it does not fit.
        BloomeryError: as `models.hf_layout.load_model`.
    """
    model = load_model(directory)
    more = vocabulary_of(shape) - vocabulary_of(model.config)
    if more > 0:
        logger.info(
            "%s: %d tokens are new to the model; they begin as the mean of the others", directory, more
        )
    return refitted(model, shape, seed=seed)


def lineage(directory: Path) -> Mapping[str, str]:
    """What a checkpoint says of the model that its training began with."""
    return {"initialised_from": str(directory), "initialised_from_weights": weights_digest(directory)}


def weights_digest(directory: Path) -> str:
    """SHA-256 of the weights in a model directory, in one file or several."""
    digests = [sha256_file(file) for file in weight_files(directory)]
    return digests[0] if len(digests) == 1 else sha256_json(digests)


def initial_source(config: PipelineConfig) -> dict[str, Any]:
    """The weights that pretraining begins with, as part of what a model is made from."""
    if config.training.init_from is None:
        return {}
    return {"initial weights": weights_digest(find_model(config.training.init_from))}
