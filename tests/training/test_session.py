import gc
import json
import logging
import signal
import time
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Subset

from core.errors import ConfigError, DataError, LockedError, MismatchError, Preempted
from core.files import lock
from data_processing.dataset_builder import DatasetBuilder
from models.hf_layout import load_model
from training import carrying_out, session
from training.batches import RowBatches
from training.hooks import JsonlMetrics
from training.run_length import resolve_total_steps
from training.session import row_loaders


def loaders(kit, config):
    return row_loaders(kit.dataset["train"], kit.dataset["validation"], config)


def run(kit, until: int | None = None, resume: Path | None = None, **settings):
    """Train with our own batches; `until` interrupts like a signal after that step."""

    def interrupt(_trainer, report) -> None:
        if report.step == until:
            signal.raise_signal(signal.SIGTERM)

    trainer = kit.pretraining(**settings)
    trainer.hooks = (interrupt,)
    return trainer.train(*loaders(kit, trainer.config), resume_from_checkpoint=resume)


def metric_lines(directory: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_steps_best_final_and_metrics(kit) -> None:
    result = run(kit)
    out = kit.root / "checkpoints"
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == [
        "best",
        "final",
        "step_12",
        "step_4",
        "step_8",
    ]
    assert result.num_steps == 12
    assert result.num_tokens == 12 * 4 * 32
    assert result.final_validation["validation/loss"] < result.initial_validation["validation/loss"]
    lines = metric_lines(out)
    assert [line["step"] for line in lines if "validation/loss" in line] == [0, 6, 12]
    assert [line["step"] for line in lines if "train/loss" in line] == [2, 4, 6, 8, 10, 12]
    assert "validation/bits_per_byte" in lines[0]


@pytest.mark.parametrize("until", [1, 5, 8, 11])
def test_an_interrupted_run_ends_as_the_uninterrupted_one_bit_for_bit(kit, until: int, same_weights) -> None:
    settings = {"gradient_accumulation_steps": 2}
    straight = load_model(run(kit, output_dir=str(kit.root / "straight"), **settings).final_directory)
    out = kit.root / "broken"
    with pytest.raises(Preempted, match=rf"SIGTERM at step {until} of 12; saved in .*step_{until}, the same"):
        run(kit, until, output_dir=str(out), **settings)
    result = run(kit, resume=out / f"step_{until}", output_dir=str(out), **settings)
    assert same_weights(load_model(result.final_directory), straight)
    strip = lambda lines: [  # noqa: E731 - what depends on the clock is left out
        {k: v for k, v in line.items() if "second" not in k and "memory" not in k} for line in lines
    ]
    evaluated = [line for line in strip(metric_lines(out)) if "validation/loss" in line]
    assert evaluated == [
        line for line in strip(metric_lines(kit.root / "straight")) if "validation/loss" in line
    ]


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_plain_data_loader_is_resumed_bit_for_bit(kit, shuffle: bool, same_weights) -> None:
    def train(out: Path, stop_after: int | None = None, resume: Path | None = None):
        trainer = kit.pretraining(output_dir=str(out), total_steps=10, save_steps=3)
        if stop_after is not None:
            trainer.hooks = (
                lambda _t, report: signal.raise_signal(signal.SIGINT) if report.step == stop_after else None,
            )
        return trainer.train(
            DataLoader(kit.dataset["train"], batch_size=4, shuffle=shuffle),
            DataLoader(kit.dataset["validation"], batch_size=4),
            resume_from_checkpoint=resume,
        )

    straight = load_model(train(kit.root / "a").final_directory)
    with pytest.raises(Preempted, match="SIGINT at step 7"):
        train(kit.root / "b", stop_after=7)
    # From the checkpoint before the last one too: the same steps are done again.
    resumed = load_model(train(kit.root / "b", resume=kit.root / "b" / "step_6").final_directory)
    assert same_weights(resumed, straight)


def test_signal_handlers_are_put_back(kit) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run(kit, total_steps=2)
    with pytest.raises(Preempted):
        run(kit, 1, total_steps=3, output_dir=str(kit.root / "other"))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_going_on_from_the_last_step_changes_nothing(kit, same_weights) -> None:
    final = load_model(run(kit).final_directory)
    out = kit.root / "checkpoints"
    result = run(kit, resume=out / "step_12")
    assert same_weights(load_model(result.final_directory), final)


def test_a_finished_run_can_be_extended_by_saying_so(kit, caplog) -> None:
    run(kit)
    with caplog.at_level(logging.WARNING):
        result = run(kit, resume=kit.root / "checkpoints" / "step_12", total_steps=15)
    assert result.num_steps == 15
    assert "the length was 12 steps and is now 15" in caplog.text


def test_a_directory_with_checkpoints_is_not_trained_over(kit) -> None:
    run(kit)
    with pytest.raises(
        ConfigError, match=r"holds checkpoints of an earlier run \(up to step_12\); go on with resume"
    ):
        run(kit)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.5}, r"learning_rate: was 0\.01, now 0\.5"),
        (
            {"seed": 3, "batch_size": 2},
            r"batch_size x gradient_accumulation_steps: was 4, now 2; seed: was 1337, now 3",
        ),
    ],
)
def test_resuming_with_other_settings_names_them(kit, settings: dict[str, object], message: str) -> None:
    run(kit)
    with pytest.raises(MismatchError, match=message):
        run(kit, resume=kit.root / "checkpoints" / "step_4", **settings)


def test_resuming_with_another_model_or_tokenizer_names_the_difference(kit, small_corpus, tmp_path) -> None:
    run(kit)
    other_shape = kit.shape.replace(num_layers=1)
    kit.shape = other_shape
    with pytest.raises(MismatchError, match="model num_layers: was 2, now 1"):
        run(kit, resume=kit.root / "checkpoints" / "step_4")
    kit.shape = other_shape.replace(num_layers=2)
    from tokenization.tokenizer import Tokenizer
    from tokenization.tokenizer_trainer import TokenizerTrainer

    TokenizerTrainer(384, "unigram").train_from_jsonl(small_corpus, "tokenizer", tmp_path / "t")
    kit.tokenizer = Tokenizer.from_file(tmp_path / "t")
    for settings in ({}, {"allow_data_change": True}):
        with pytest.raises(MismatchError, match="the tokenizer: was"):
            run(kit, resume=kit.root / "checkpoints" / "step_4", **settings)


def test_resuming_with_other_data_is_refused(kit, small_corpus, small_tokenizer_directory) -> None:
    run(kit)
    builder = DatasetBuilder(small_tokenizer_directory, 32, seed=5)
    with builder.build_from_jsonl(small_corpus, 0.8, 0.1, 0.1) as other:
        kit.dataset = other
        with pytest.raises(MismatchError, match=r"the data: was .*, now "):
            run(kit, resume=kit.root / "checkpoints" / "step_4")


def test_checkpoints_of_later_steps_are_set_aside_when_going_back(kit) -> None:
    run(kit)
    with pytest.raises(Preempted):
        run(kit, 5, resume=kit.root / "checkpoints" / "step_4", save_total_limit=2)
    names = {p.name for p in (kit.root / "checkpoints").iterdir() if p.name.startswith("step_")}
    assert names == {"step_4", "step_5", "step_8.superseded-1", "step_12.superseded-1"}


def test_a_signal_in_the_last_step_is_not_lost(kit) -> None:
    with pytest.raises(Preempted, match="SIGTERM at step 12 of 12; saved"):
        run(kit, 12)
    result = run(kit, resume=kit.root / "checkpoints" / "step_12")
    assert result.num_steps == 12


def test_a_signal_after_the_last_step_goes_to_who_listened_before_and_loses_nothing(
    kit, monkeypatch, same_weights
) -> None:
    straight = load_model(run(kit, output_dir=str(kit.root / "straight")).final_directory)
    save = carrying_out.save_checkpoint

    class Stopped(BaseException):
        pass

    def stopped(place: Path, *arguments, **options) -> Path:
        signal.raise_signal(signal.SIGTERM)
        return save(place, *arguments, **options)

    def stop(_number: int, _frame: object) -> None:
        raise Stopped

    monkeypatch.setattr(carrying_out, "save_checkpoint", stopped)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Stopped):
            run(kit)
    finally:
        signal.signal(signal.SIGTERM, before)
    monkeypatch.undo()
    out = kit.root / "checkpoints"
    assert not (out / "final").exists()
    assert same_weights(load_model(run(kit, resume=out / "step_12").final_directory), straight)


def test_a_signal_before_the_first_step_is_answered_after_it(kit, monkeypatch) -> None:
    prepare = session._prepare_directory

    def stopped(*arguments) -> None:
        signal.raise_signal(signal.SIGTERM)
        prepare(*arguments)

    monkeypatch.setattr(session, "_prepare_directory", stopped)
    with pytest.raises(Preempted, match=r"SIGTERM at step 1 of 12; saved in .*step_1, the same"):
        run(kit)
    with pytest.raises(Preempted, match="SIGTERM at step 2 of 12"):
        run(kit, resume=kit.root / "checkpoints" / "step_1")


def test_a_directory_that_another_process_trains_into_is_refused(kit) -> None:
    out = kit.root / "checkpoints"
    with lock(out / ".lock", held=out), pytest.raises(LockedError, match="is in use by process") as caught:
        run(kit)
    assert caught.value.exit_code == 73
    assert [path.name for path in out.iterdir()] == [".lock"]
    run(kit)  # it was let go of


def test_a_run_cannot_end_before_where_it_is(kit) -> None:
    run(kit)
    with pytest.raises(ConfigError, match="now 6 steps, but the checkpoint has 12 behind it"):
        run(kit, resume=kit.root / "checkpoints" / "step_12", total_steps=6)


def test_a_damaged_final_is_written_again(kit, same_weights) -> None:
    final = run(kit).final_directory
    whole = load_model(final)
    (final / "model.safetensors").write_bytes(b"x")
    result = run(kit, resume=kit.root / "checkpoints" / "step_12")
    assert same_weights(load_model(result.final_directory), whole)


def test_what_a_killed_process_left_half_written_is_deleted(kit) -> None:
    (kit.root / "checkpoints" / ".step_4.tmp-abc").mkdir(parents=True)
    (kit.root / "checkpoints" / ".best.new").mkdir()
    run(kit)
    assert [path.name for path in (kit.root / "checkpoints").glob(".*")] == [".lock"]


def test_a_full_disk_for_metrics_does_not_end_the_training(kit, caplog, monkeypatch) -> None:
    trainer = kit.pretraining(total_steps=3, logging_steps=1)

    def fill_the_disk(_trainer, report) -> None:
        if report.step != 1:
            return
        sink = next(h for h in gc.get_objects() if isinstance(h, JsonlMetrics) and not h._file.closed)
        sink._file.close()
        sink._file = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115

    trainer.hooks = (fill_the_disk,)
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with caplog.at_level(logging.WARNING):
        assert trainer.train(*loaders(kit, trainer.config)).num_steps == 3
    assert caplog.text.count("not written any more") >= 1


def test_early_stopping_puts_the_cadence_of_evaluations_into_the_recipe(kit) -> None:
    assert "eval_steps" not in kit.config().fingerprint_settings()
    assert "eval_steps" in kit.config(early_stopping_patience=3).fingerprint_settings()


def test_a_missing_checkpoint_is_an_error_and_not_a_fresh_start(kit) -> None:
    with pytest.raises(DataError, match="no such directory"):
        run(kit, resume=kit.root / "step_7")


def test_early_stopping_ends_the_run_and_stays_ended(kit) -> None:
    settings = {
        "learning_rate": 9.0,
        "warmup_steps": 0,
        "eval_steps": 1,
        "total_steps": 40,
        "early_stopping_patience": 2,
    }
    result = run(kit, **settings)
    assert result.num_steps < 40
    last = kit.root / "checkpoints" / f"step_{result.num_steps}"
    assert run(kit, resume=last, **settings).num_steps == result.num_steps


def test_a_time_budget_ends_the_run_and_what_is_spent_of_it_counts_after_an_interruption(kit) -> None:
    budget = {"total_steps": None, "time_budget_seconds": 8.0, "eval_steps": 1000, "save_steps": 1000}
    with pytest.raises(Preempted):
        run(kit, 20, **budget)
    [saved] = (kit.root / "checkpoints").glob("step_*")
    spent = json.loads((saved / "trainer" / "state.json").read_text())["progress"]["active_seconds"]
    started = time.monotonic()
    result = run(kit, resume=saved, **budget)
    elapsed = time.monotonic() - started
    assert result.num_steps == result.total_steps > 20
    assert 0 < spent < 8
    # How close it comes is tested with a clock of its own; here only that it neither starts over nor goes on for ever.
    assert elapsed < 10 * 8.0


@pytest.mark.parametrize(
    ("settings", "steps", "reason"),
    [
        ({"total_steps": 7}, 7, "0.07 passes"),
        ({"epochs": 2.5}, 250, "2.5 passes"),
        ({"gradient_accumulation_steps": 4, "epochs": 2.0}, 50, "2 passes"),
        ({}, 400, "4 passes"),
    ],
)
def test_the_length_of_a_run(kit, settings: dict[str, object], steps: int, reason: str) -> None:
    config = kit.config(**{"total_steps": None, **settings})
    found = resolve_total_steps(
        config,
        steps_per_epoch=100 / config.gradient_accumulation_steps,
        tokens_per_step=1000,
        num_parameters=10**6,
    )
    assert found[0] == steps
    assert reason in found[1]


def test_without_a_length_a_small_model_gets_twenty_tokens_a_parameter(kit) -> None:
    config = kit.config(total_steps=None)
    found = resolve_total_steps(config, steps_per_epoch=1e6, tokens_per_step=1000, num_parameters=10_000)
    assert found == (200, "20 tokens a parameter")


def test_metrics_go_to_tensorboard_too(kit) -> None:
    run(kit, tensorboard=True, total_steps=4)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(kit.root / "checkpoints" / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("train/loss")] == [2, 4]
    expected = [line["train/loss"] for line in metric_lines(kit.root / "checkpoints") if "train/loss" in line]
    assert [e.value for e in events.Scalars("train/loss")] == pytest.approx(expected)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
# TensorBoard's own thread tells of its error too, with a traceback that nobody can catch.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_for_tensorboard_does_not_end_the_training_and_is_said_once(kit, caplog) -> None:
    trainer = kit.pretraining(total_steps=8, logging_steps=1, tensorboard=True)
    directory = kit.root / "checkpoints" / "tensorboard"

    def fill_the_disk(_trainer, report) -> None:
        if report.step == 1:
            # TensorBoard opens its file by name each time that it writes what has come together.
            (events,) = directory.iterdir()
            full = kit.root / "full"
            full.symlink_to("/dev/full")
            full.replace(events)  # in one step: its writer, in a thread, would make the file anew meanwhile

    trainer.hooks = (fill_the_disk,)
    with caplog.at_level(logging.WARNING):
        result = trainer.train(*loaders(kit, trainer.config))
    assert result.num_steps == 8 and result.final_directory.is_dir()
    said = [record.getMessage() for record in caplog.records if "not written any more" in record.getMessage()]
    assert len(said) == 1 and said[0].startswith(f"{directory}: not written any more ("), caplog.text


def test_half_a_line_of_metrics_and_steps_past_the_checkpoint_are_dropped(kit) -> None:
    with pytest.raises(Preempted):
        run(kit, 8)
    path = kit.root / "checkpoints" / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 9, "train/lo')
    run(kit, resume=kit.root / "checkpoints" / "step_4")
    steps = [line["step"] for line in metric_lines(kit.root / "checkpoints") if "train/loss" in line]
    assert steps == [2, 4, 6, 8, 10, 12]


def test_weights_of_a_shape_other_than_the_models_are_refused(kit) -> None:
    from training.pretraining_trainer import PretrainingTrainer

    with pytest.raises(MismatchError, match="num_layers: 2 and 5"):
        PretrainingTrainer(kit.model(), kit.config(), kit.shape.replace(num_layers=5))


def test_the_tokenizer_of_the_dataset_is_saved_with_the_model(kit) -> None:
    trainer = kit.pretraining(total_steps=1)
    trainer.tokenizer = None
    source = RowBatches(kit.dataset["train"], batch_size=4, seed=1)
    assert (trainer.train(source).final_directory / "tokenizer.model").is_file()


def test_going_back_leaves_no_final_of_the_abandoned_run(kit, same_weights) -> None:
    abandoned = load_model(run(kit).final_directory)
    kit.dataset = {"train": Subset(kit.dataset["train"], range(40)), "validation": kit.dataset["validation"]}
    trainer = kit.pretraining()
    result = trainer.train(
        DataLoader(kit.dataset["train"], batch_size=4),
        DataLoader(kit.dataset["validation"], batch_size=4),
        resume_from_checkpoint=kit.root / "checkpoints" / "step_4",
    )
    assert not same_weights(load_model(result.final_directory), abandoned)
    assert same_weights(load_model(result.final_directory), load_model(kit.root / "checkpoints" / "step_12"))


def test_a_checkpoint_of_elsewhere_does_not_go_into_a_directory_with_its_own_run(kit) -> None:
    run(kit)
    run(kit, output_dir=str(kit.root / "mine"))
    with pytest.raises(
        ConfigError, match=r"mine: holds checkpoints of its own, and .*step_4 is another run's"
    ):
        run(kit, resume=kit.root / "checkpoints" / "step_4", output_dir=str(kit.root / "mine"))
    assert (kit.root / "mine" / "step_12").is_dir()


def test_other_data_is_refused_or_when_allowed_recorded(kit, caplog: pytest.LogCaptureFixture) -> None:
    out = kit.root / "checkpoints"
    with pytest.raises(Preempted):
        run(kit, 4)
    changed = RowBatches(kit.dataset["validation"], batch_size=4, seed=1)
    with pytest.raises(MismatchError, match=r"the data: was .*, now .*allow_data_change"):
        kit.pretraining().train(changed, resume_from_checkpoint=out / "step_4")
    with caplog.at_level(logging.INFO):
        result = kit.pretraining(allow_data_change=True).train(changed, resume_from_checkpoint=out / "step_4")
    assert result.num_steps == 12
    [event] = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert (event["step"], event["kind"]) == (4, "data_changed")
    assert event["was"] == kit.dataset["train"].fingerprint
    assert event["now"] == kit.dataset["validation"].fingerprint
    assert "learns from other data" in caplog.text
    assert "going on from step 4 (not bit-exact because the data changed)" in caplog.text


def test_rows_of_another_tokenizer_are_refused_also_where_other_data_are_allowed(
    kit, small_corpus, tmp_path
) -> None:
    from tokenization.tokenizer_trainer import TokenizerTrainer

    out = kit.root / "checkpoints"
    with pytest.raises(Preempted):
        run(kit, 4)
    TokenizerTrainer(384, "unigram").train_from_jsonl(small_corpus, "tokenizer", tmp_path / "other")
    with DatasetBuilder(tmp_path / "other", 32).build_from_jsonl(small_corpus, 0.8, 0.1, 0.1) as dataset:
        changed = RowBatches(dataset["train"], batch_size=4, seed=1)
        with pytest.raises(MismatchError, match="the tokenizer of the rows: was"):
            kit.pretraining(allow_data_change=True).train(changed, resume_from_checkpoint=out / "step_4")
    assert not (out / "events.jsonl").exists()


def test_the_best_weights_are_decided_anew_on_other_data(kit) -> None:
    out = kit.root / "checkpoints"
    with pytest.raises(Preempted):
        run(kit, 7)
    best: dict[int, float | None] = {}

    def note(trainer, report) -> None:
        best[report.step] = trainer.progress.best_validation_loss

    trainer = kit.pretraining(allow_data_change=True)
    trainer.hooks = (note,)
    held_out = RowBatches(kit.dataset["validation"], batch_size=4, seed=1)
    trainer.train(
        held_out, DataLoader(kit.dataset["test"], batch_size=4), resume_from_checkpoint=out / "step_7"
    )
    # Step 6 was evaluated on other rows; the first evaluation on these comes with step 12.
    assert (best[8], best[11]) == (None, None)
    assert best[12] is not None
