"""From a trained model to a proven export: written beside, asked, compared, renamed. Knows no format.

Nothing appears at the target unless the engine that will run it gave our answers, or the user renounced that.
"""

import copy
import dataclasses
import functools
import importlib.util
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from core.errors import ConfigError, DataError, MismatchError, MissingDependencyError
from core.files import check_writable, lock, new_directory, remove_leftovers, write_json
from core.manifest import content_fingerprint, describe_files, read_manifest
from core.setting_names import named
from inference.chat import ChatModel
from inference.export.certificate import (
    CERTIFICATE_NAME,
    compare_ids,
    compare_scores,
    differences,
    logits_of,
)
from inference.export.engine_process import in_fresh_process
from inference.export.formats import EXPORTS, EXTRA, Format, Writes
from inference.export.questions import Questions, make_questions
from inference.export.tolerances import TOLERANCES, tolerance_of
from models.transformer_lm import TransformerLM

logger = logging.getLogger(__name__)


def export_model(
    path: str | Path,
    format_name: str,
    *,
    dtype: str | None = None,
    output: str | Path | None = None,
    max_shard_bytes: int | None = None,
    unproven: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Write the model of a run or a model directory in another format, and prove it.

    Args:
        format_name: One of `formats.EXPORTS`.
        dtype: Of the weights; None = the first that the format lists.
        output: A new directory; None = `default_output`.
        max_shard_bytes: Of one file of weights; None = the writer's own choice.
        unproven: Go without the proof if the engine that would give it is not installed.

    Returns:
        The directory, and the certificate that lies in it.

    Raises:
        ConfigError: format, dtype, size of a file or model do not go together.
        MissingDependencyError: what writes or proves the format is not installed.
        MismatchError: the engine gave other answers than the model; nothing is left.
        DataError: there is no model, or the output is there already.
        LockedError: another process exports to this output.
        DiskError: the disk is full or not writable; nothing is left.
    """
    format = named(format_name, EXPORTS, setting="--to", place="inference.export.formats.EXPORTS")
    dtypes = TOLERANCES[format_name]
    dtype = next(iter(dtypes)) if dtype is None else dtype
    if dtype not in dtypes:
        raise ConfigError(f"--dtype {dtype}: expected {' or '.join(dtypes)} for {format_name}")
    write = _writer(format, format_name, max_shard_bytes)
    is_proven = _check_packages(format, format_name, unproven=unproven)
    if output is not None:
        _check_place(Path(output))
    source = ChatModel.load(path, device="cpu")
    assert source.directory is not None
    if objections := format.objections(source):
        raise ConfigError(f"{source.directory}: cannot be exported to {format_name}: {'; '.join(objections)}")
    output = (
        default_output(Path(path), source.directory, format_name, dtype) if output is None else Path(output)
    )

    _check_place(output)
    with lock(output.with_name(f".{output.name}.lock"), held=output, leave=False):
        _check_free(output)  # once more: now nobody else can put it there
        remove_leftovers(output)
        with new_directory(output) as temporary:
            write(source, temporary, dtype=dtype)
            files = describe_files(temporary, [file for file in temporary.rglob("*") if file.is_file()])
            certificate = _description(source, format_name, dtype) | {"proven": is_proven}
            if is_proven:
                seed = int(certificate["source"]["fingerprint"][:8], 16)
                certificate |= prove(format_name, source, temporary, dtype=dtype, seed=seed)
            certificate["files"] = files
            write_json(temporary / CERTIFICATE_NAME, certificate)
    return output, certificate


def default_output(path: Path, directory: Path, format_name: str, dtype: str) -> Path:
    """Where an export goes if nobody says: into `export/` of a run, beside a model directory."""
    name = f"{format_name}-{dtype}"
    return directory.with_name(f"{directory.name}-{name}") if path == directory else path / "export" / name


def prove(format_name: str, source: ChatModel, directory: Path, *, dtype: str, seed: int) -> dict[str, Any]:
    """What the certificate says of the answers that the export in `directory` gives in its engine.

    An engine that rounds more than the weights can be compared loosely only, and that would hide a small mistake: with
    q8_0, a norm that is off by 2 %. So what the same writer makes of the weights in float32 is proven first, closely.

    Args:
        seed: Of the random questions.

    Raises:
        MismatchError: they are not ours, or the engine cannot use the export.
    """
    format, model = EXPORTS[format_name], source.engine.model
    questions = make_questions(
        source.tokenizer,
        context=model.config.max_position_embeddings,
        num_rows=model.embedding.num_embeddings,
        seed=seed,
    )
    tolerance = tolerance_of(format_name, dtype, model.config.architecture)
    close = tolerance_of(format_name, "float32", model.config.architecture)
    certificate: dict[str, Any] = {"seed": seed, "float32_twin": None, "rounding": None}
    if tolerance != close:
        twin = directory / "float32_twin"
        twin.mkdir()
        format.write(source, twin, dtype="float32")
        prompts_alone = dataclasses.replace(questions, texts=(), conversations=())
        found = _judged(format, source, twin, prompts_alone, stored=model, tolerance=close)
        certificate["float32_twin"] = found["scores"]
        shutil.rmtree(twin)
    stored = as_stored(model, format, dtype)
    certificate |= _judged(format, source, directory, questions, stored=stored, tolerance=tolerance)
    for excuse, count in certificate["ids"].get("texts", {}).get("excused", {}).items():
        logger.warning("%s (in %d of %d hostile texts)", excuse, count, len(questions.texts))
    if stored is not model:
        certificate["rounding"] = rounding(model, stored, questions)
    return certificate


def _judged(
    format: Format,
    source: ChatModel,
    directory: Path,
    questions: Questions,
    *,
    stored: TransformerLM,
    tolerance: Mapping[str, float],
) -> dict[str, Any]:
    answers = in_fresh_process(format.answer, directory, questions)
    ids, id_problems = compare_ids(
        questions, answers, source.tokenizer, excuses=format.excuses(source.tokenizer)
    )
    scores, score_problems = compare_scores(questions, answers, stored, tolerance=tolerance)
    if problems := [*id_problems, *score_problems]:
        raise MismatchError(
            f"the export does not do what the model does: {'; '.join(problems)}; nothing was left. If the engine is "
            "another version than constraints.txt names, install that; otherwise this is a mistake in this program"
        )
    return {"engine": dict(answers.versions), "ids": ids, "scores": scores}


def as_stored(model: TransformerLM, format: Format, dtype: str) -> TransformerLM:
    """The model with the weights that whoever reads the export has, in float32.

    Raises:
        MismatchError: the dtype cannot hold one of them.
    """
    if dtype == "float32":
        return model
    result = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            parameter.copy_(format.stored(name, parameter, dtype))
            if not torch.isfinite(parameter).all():
                raise MismatchError(
                    f"{name} has a value that {dtype} cannot hold; choose --dtype float32 or bfloat16; nothing was left"
                )
    return result


def rounding(model: TransformerLM, stored: TransformerLM, questions: Questions) -> dict[str, Any]:
    """What storing the weights in fewer bits changes, with our own products in float32."""
    found = differences(
        [(logits_of(model, prompt), logits_of(stored, prompt)) for prompt in questions.prompts]
    )
    return {name: found[name] for name in ("predictions", "mean_kl_nats", "max_kl_nats", "equal_argmax")}


def _writer(format: Format, format_name: str, max_shard_bytes: int | None) -> Writes:
    if max_shard_bytes is None:
        return format.write
    if not format.has_shards:
        several = " or ".join(name for name, other in EXPORTS.items() if other.has_shards)
        raise ConfigError(
            f"--max-shard-size: the weights of {format_name} are in one file, only those of {several} can be in "
            "several; leave it out"
        )
    return functools.partial(format.write, max_shard_bytes=max_shard_bytes)


def _check_place(output: Path) -> None:
    """Nothing, when a directory can be made at `output`."""
    if not output.name:
        raise ConfigError(f"--output {str(output)!r}: expected the name of a new directory")
    _check_free(output)
    check_writable(output.parent)


def _check_free(output: Path) -> None:
    if os.path.lexists(output):
        raise DataError(f"{output}: is there already; delete it, or choose another --output")


def _check_packages(format: Format, format_name: str, *, unproven: bool) -> bool:
    """Whether the export can be proven."""
    if missing := _missing(format.writing_packages):
        raise MissingDependencyError(f"--to {format_name} needs {' and '.join(missing)}; {EXTRA}")
    missing = _missing(format.proving_packages)
    if missing and not unproven:
        raise MissingDependencyError(
            f"--to {format_name} is proven by {' and '.join(missing)}, which is not installed; {EXTRA}, or renounce "
            "the proof with --unproven"
        )
    return not missing


def _missing(packages: Sequence[str]) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]


def _description(source: ChatModel, format_name: str, dtype: str) -> dict[str, Any]:
    assert source.directory is not None
    model, manifest = source.engine.model, read_manifest(source.directory) or {}
    config = model.config
    files = describe_files(source.directory, [file for file in source.directory.iterdir() if file.is_file()])
    return {
        "format": format_name,
        "dtype": dtype,
        "source": {
            "directory": source.directory.name,
            "stage": manifest.get("stage"),
            "step": manifest.get("step"),
            "fingerprint": content_fingerprint(files),
            "tokenizer_fingerprint": source.tokenizer.fingerprint,
        },
        "reference": {"torch": torch.__version__, "dtype": "float32"},
        "model": {
            "architecture": config.architecture,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "layers": config.num_layers,
            "hidden_size": config.hidden_size,
            "context": config.max_position_embeddings,
            "vocabulary": model.embedding.num_embeddings,
            "tied_head": config.tie_word_embeddings,
        },
    }
