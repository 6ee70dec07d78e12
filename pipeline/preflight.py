"""What is settled and checked before any work: automatic settings, the device, files that are named, room on disk."""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.device_manager import DeviceManager
from core.errors import BloomeryError, ConfigError, DataError, DiskError
from core.training_config import DataConfig, PipelineConfig
from data_processing.document import Dropped
from data_processing.rows.arrow_rows import read_metadata
from data_processing.rows.conversations import read_conversations
from data_processing.rows.preferences import read_preferences
from data_processing.rules.blocklist import BlockedDocuments, blocklist_step
from data_processing.rules.decontaminate import read_records
from data_processing.rules.language import language_step
from data_processing.sources.raw_files import existing_directory
from data_processing.sources.remote_files import is_url
from data_processing.sources.sql_source import holds_password
from evaluation.task_files import read_tasks
from models.counting import count_parameters
from pipeline.initial_model import settle_initial_model
from pipeline.part_names import check_part_names
from pipeline.sources import Sources, listed_files
from pipeline.stages import line
from pipeline.tuning import DEFAULT_INSTRUCTION_FILE
from tokenization.tokenizer import Tokenizer
from training.checkpoint import FEWEST_KEPT

DEFAULT_RAW_DIR: Path = DataConfig.model_fields["raw_dir"].default

BYTES_PER_PARAMETER_TRAINING = 16
"""float32 weights, gradients and AdamW's two moments."""

BYTES_PER_PARAMETER_CHECKPOINT = 12
"""float32 weights and AdamW's two moments."""

PRESET_BY_CUDA_MEMORY = ((70e9, "large"), (38e9, "medium"), (15e9, "small"), (0.0, "tiny"))
"""Smallest device memory in bytes → preset that trains on it with its batch (arbitrary, with a wide margin)."""

CPU_PRESET = "laptop"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a run needs, before it starts. Sizes in bytes."""

    num_parameters: int
    state_bytes: int
    """Weights, gradients and optimizer; activations come on top."""
    checkpoint_bytes: int
    disk_bytes: int
    """All checkpoints that are kept at one time."""
    planned: Mapping[str, Any] | None = None
    """What a plan for a time budget expects; None without one."""


def preset_for_device(device: str) -> str:
    """The preset that `run.preset=auto` stands for on this machine."""
    manager = DeviceManager(device)
    if manager.device.type != "cuda":
        return CPU_PRESET
    memory = manager.total_memory_bytes()
    return next(preset for smallest, preset in PRESET_BY_CUDA_MEMORY if memory >= smallest)


def settle(config: PipelineConfig, sources: Sources | None) -> tuple[PipelineConfig, list[str]]:
    """The configuration with automatic choices made, and what is to be said about them.

    Raises:
        DataError: a directory or file that was named is missing.
        ConfigError, MismatchError: the model to go on from does not fit.
    """
    notes: list[str] = []
    data = config.data
    if sources is None and data.corpus == "auto":
        if data.raw_dir != DEFAULT_RAW_DIR or data.file_list is not None:
            # Somebody named it: what it lacks is an error, and nothing else is trained on instead.
            config = config.replace(data={"corpus": "directory"})
        elif data.raw_dir.is_dir() and any(not p.name.startswith(".") for p in data.raw_dir.iterdir()):
            config = config.replace(data={"corpus": "directory"})
        else:
            config = config.replace(data={"corpus": "python_standard_library"})
            notes.append(
                f"{data.raw_dir} holds no files: training on the standard library of this Python instead "
                "(put files there or use --data DIR for your own)"
            )
    with _naming("training.init_from"):
        config, more = settle_initial_model(config)
    return config, notes + more


def check(config: PipelineConfig, sources: Sources | None, *, trains: bool = True) -> Estimate:
    """What the run needs, once everything that can be known beforehand is found in order.

    Args:
        trains: Whether a model is trained this time: memory and disk for it are asked for then only.

    Raises:
        DeviceError: the device is not there.
        DataError: a directory or file that was named is missing, or is not what it should be.
        ConfigError: the model cannot fit into the device's memory, or the device lacks a precision.
        DiskError: the checkpoints cannot fit onto the disk.
    """
    device = DeviceManager(config.training.device)
    for section, settings in (
        ("training", config.training),
        ("instruction", config.instruction),
        ("preference", config.preference),
    ):
        with _naming(section):
            device.check_precision(settings.mixed_precision)
    if sources is None and config.data.corpus == "directory":
        if config.data.file_list is not None:
            listed_files(config.data.file_list)
        elif not is_url(config.data.raw_dir):
            existing_directory(config.data.raw_dir)
    for place in config.data.more_data:
        if not (is_url(place) or place.is_file()):
            with _naming("data.more_data"):
                existing_directory(place)
    if holds_password(config.data.sql):
        raise ConfigError(
            "data.sql.url holds a password, and settings are written into the run's files; write ${NAME} in its place "
            "and put the password into the environment variable NAME"
        )
    check_part_names(config)
    check_named_files(config)
    language_step(config.data.languages)  # says now that a language is unknown
    check_places(config)
    estimate = estimate_needs(config)
    memory = device.total_memory_bytes()
    if trains and memory and estimate.state_bytes > memory:
        raise ConfigError(
            f"the model has {estimate.num_parameters:,} parameters; training it needs at least "
            f"{estimate.state_bytes / 1e9:.1f} GB and {device.device} has {memory / 1e9:.1f} GB; choose a smaller "
            "run.preset or model.hidden_size"
        )
    place = config.training.output_dir or config.run.directory
    free = shutil.disk_usage(_existing_parent(place)).free
    if trains and estimate.disk_bytes > free:
        raise DiskError(
            f"{place}: the checkpoints need about {estimate.disk_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB are "
            "free; make room, or lower training.save_total_limit"
        )
    return estimate


def check_places(config: PipelineConfig) -> None:
    """Refuse places of results that would overwrite each other or something else.

    Raises:
        ConfigError: a place cannot be a directory, two stages' places are the same or one is inside another, the run
            would fill the current directory or one with foreign files, or the raw data are where the run writes.
    """
    directory = config.run.directory
    for setting, place in _places_of_results(config).items():
        _check_can_be_directory(setting, place)
    run = directory.resolve()
    if run in (Path.cwd(), Path.home(), *Path.cwd().parents):
        raise ConfigError(
            f"run.dir={str(directory)!r}: a run needs a directory of its own, such as runs/mine"
        )
    if run.is_dir() and any(run.iterdir()) and not (run / ".lock").exists():
        raise ConfigError(
            f"run.dir={str(directory)!r}: holds files that no run wrote; choose a new directory"
        )
    raw_dir = config.data.raw_dir
    if config.data.corpus == "directory" and not is_url(raw_dir) and raw_dir.resolve().is_relative_to(run):
        raise ConfigError(
            f"data.raw_dir={str(config.data.raw_dir)!r} is where the run writes; choose another run.dir"
        )
    places = {stage.name: stage.place(config) for stage in line()}
    for name, place in places.items():
        if run.is_relative_to(place.resolve()):
            raise ConfigError(
                f"the output directory of {name}, {place}, holds the run directory; choose another"
            )
        for other, inside in places.items():
            if other != name and inside.resolve().is_relative_to(place.resolve()):
                raise ConfigError(
                    f"the output directory of {other}, {inside}, is that of {name} or inside of it"
                )


def _places_of_results(config: PipelineConfig) -> dict[str, Path]:
    """The settings that say where results go, with the directories that they name."""
    data = config.data
    places = {
        "run.dir" if config.run.dir is not None else "run.name": config.run.directory,
        "data.output_dir": data.output_dir,
        "data.dataset_dir": data.dataset_dir,
        "data.cache_dir": None if data.cache_dir is None or is_url(data.cache_dir) else Path(data.cache_dir),
        "tokenizer.output_dir": config.tokenizer.output_dir,
        "training.output_dir": config.training.output_dir,
        "instruction.output_dir": config.instruction.output_dir,
        "preference.output_dir": config.preference.output_dir,
    }
    return {setting: place for setting, place in places.items() if place is not None}


def _check_can_be_directory(setting: str, place: Path) -> None:
    # A link that leads nowhere is there as well, and no directory can be made in its place.
    existing = next(path for path in (place, *place.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        found = "is a link that leads nowhere" if existing.is_symlink() else "is no directory"
        raise ConfigError(
            f"{setting}={str(place)!r}: {existing} {found}; choose another place, or move it out of the way"
        )


def check_named_files(config: PipelineConfig) -> None:
    """Refuse, before hours of work, to go on to a file that is not there or is not what it should be.

    Raises:
        DataError: a file that a setting names is missing, cannot be read, or is no such file.
        ConfigError: a tokenizer cannot be used, or has more tokens than the model is to have.
    """
    file = config.instruction.data
    if file != DEFAULT_INSTRUCTION_FILE or file.exists():
        check_instruction_file(file)
    for file in config.instruction.more_data:
        check_instruction_file(file, setting="instruction.more_data")
    if config.instruction.replay_dataset is not None:
        with _naming("instruction.replay_dataset"):
            read_metadata(config.instruction.replay_dataset / "train")
    if config.preference.data is not None:
        check_record_file(config.preference.data, read_preferences, setting="preference.data")
    blocklist, decontamination = config.data.blocklist, config.data.decontamination
    for setting, path in (
        ("data.blocklist.documents", blocklist.documents),
        ("data.blocklist.patterns", blocklist.patterns),
        ("data.learned", config.data.learned),
        *(("data.decontamination.files", path) for path in decontamination.files),
        ("tokenizer.path", config.tokenizer.path),
        *(("tokenizer.references", path) for path in config.tokenizer.references),
    ):
        if path is not None and not path.exists():
            raise DataError(
                f"{setting}={str(path)!r}: no such file; correct the name, or leave the setting out"
            )
    if blocklist.documents is not None:
        BlockedDocuments.from_file(blocklist.documents)
    if blocklist.patterns is not None:
        blocklist_step(blocklist)  # says now that a pattern cannot be read
    for path in decontamination.files:
        next(read_records(path), None)
    with _naming("evaluation.tasks"):
        read_tasks(config.evaluation.tasks)
    _check_tokenizers(config)


def _check_tokenizers(config: PipelineConfig) -> None:
    settings, most = config.tokenizer, config.model.vocab_size
    if settings.path is not None:
        with _naming("tokenizer.path"):
            given = Tokenizer.from_file(settings.path, tiktoken_pattern=settings.tiktoken_pattern)
        if most is not None and given.vocab_size > most:
            raise ConfigError(
                f"model.vocab_size {most} is below the {given.vocab_size} tokens of tokenizer.path {settings.path}; "
                "set it to null"
            )
    for path in settings.references:
        with _naming("tokenizer.references"):
            Tokenizer.from_file(path, tiktoken_pattern=settings.tiktoken_pattern)


def check_instruction_file(file: Path, *, setting: str = "instruction.data") -> None:
    """Refuse a file without a single usable record now, and not after pretraining.

    Raises:
        DataError: as `check_record_file`.
    """
    check_record_file(file, read_conversations, setting=setting)


def check_record_file(file: Path, read: Callable[[Path], Iterator[Any]], *, setting: str) -> None:
    """Refuse a file of which `read` gives nothing but what is dropped.

    Raises:
        DataError: it is missing, no regular file, unreadable, or without a usable record.
    """
    if not file.is_file():
        found = "is no regular file" if file.exists() else "no such file"
        raise DataError(f"{setting}={str(file)!r}: {found}; name a jsonl or json file of records")
    try:
        # Reads up to the first usable record, and to the end (with an error that says why) where there is none.
        with _naming(setting):
            any(not isinstance(item, Dropped) for item in read(file))
    except OSError as error:
        raise DataError(f"{setting}={str(file)!r}: cannot be read ({error.strerror})") from None


@contextlib.contextmanager
def _naming(setting: str) -> Iterator[None]:
    """Puts the setting in front of what an error says about its value."""
    try:
        yield
    except BloomeryError as error:
        raise type(error)(f"{setting}: {error}") from None


def estimate_needs(config: PipelineConfig) -> Estimate:
    """Parameters, memory and disk of the configured model."""
    shape = config.model.replace(vocab_size=config.model.vocab_size or config.data.tokenizer_vocab_size)
    number = count_parameters(shape).total
    checkpoint = BYTES_PER_PARAMETER_CHECKPOINT * number
    # One more than is kept is there while the next is written; best and final hold weights alone.
    kept = max(FEWEST_KEPT, config.training.save_total_limit or 10) + 1
    return Estimate(
        num_parameters=number,
        state_bytes=BYTES_PER_PARAMETER_TRAINING * number,
        checkpoint_bytes=checkpoint,
        disk_bytes=2 * (kept * checkpoint + 2 * 4 * number),
    )


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
