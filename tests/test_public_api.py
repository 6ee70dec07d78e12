"""The calls that users' documents show, in their order, with their argument names and return values."""

import json
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from core.device_manager import DeviceManager
from core.errors import BloomeryError
from core.training_config import DataConfig, ModelConfig, TrainingConfig
from data_processing.data_collector import DataCollector
from data_processing.dataset_builder import DatasetBuilder
from data_processing.text_cleaner import TextCleaner
from models.transformer_lm import create_model_from_config
from tests.small_texts import make_documents
from tokenization.tokenizer_trainer import TokenizerTrainer
from training.pretraining_trainer import PretrainingTrainer


def test_the_documented_calls_lead_from_files_to_a_resumed_model(tmp_path: Path) -> None:
    source_dir = tmp_path / "notes"
    (source_dir / "deep").mkdir(parents=True)
    for index, text in enumerate(make_documents(40, seed=1)):
        (source_dir / ("deep" if index % 2 else ".") / f"{index}.txt").write_text(text)

    device_manager = DeviceManager(force_device="cpu")
    assert device_manager.get_device_info()["device"] == "cpu"

    cleaner = TextCleaner(min_length=50, max_urls=5)
    collector = DataCollector(output_dir=tmp_path / "corpus", cleaner=cleaner)
    jsonl_file = collector.collect_from_directory(source_dir=source_dir, recursive=True)
    assert jsonl_file == tmp_path / "corpus" / "collected_texts.jsonl"
    assert len(jsonl_file.read_text().splitlines()) == 40

    trainer = TokenizerTrainer(vocab_size=380, model_type="bpe")
    model_path, vocab_path = trainer.train_from_jsonl(
        jsonl_file=jsonl_file, output_prefix="tokenizer", output_dir=tmp_path / "tokenizer"
    )
    assert model_path.name == "tokenizer.model"
    assert vocab_path.name == "tokenizer.vocab"

    builder = DatasetBuilder(tokenizer_model_path=model_path, max_length=32)
    dataset = builder.build_from_jsonl(jsonl_file=jsonl_file, train_split=0.8, val_split=0.1, test_split=0.1)
    assert set(dataset) == {"train", "validation", "test"}
    builder.save_dataset(dataset, tmp_path / "arrow", format="arrow")
    builder.save_dataset(dataset, tmp_path / "jsonl", format="jsonl")
    assert (tmp_path / "arrow" / "train").is_dir()
    assert (tmp_path / "jsonl" / "train.jsonl").is_file()

    (tmp_path / "model_config.json").write_text(
        json.dumps(
            {
                "hidden_size": 32,
                "num_layers": 2,
                "num_attention_heads": 2,
                "num_kv_heads": 1,
                "vocab_size": 380,
                "max_position_embeddings": 32,
                "use_rms_norm": True,
                "use_swiglu": True,
                "use_rope_embeddings": True,
            }
        )
    )
    (tmp_path / "training_config.json").write_text(
        json.dumps(
            {
                "batch_size": 4,
                "gradient_accumulation_steps": 2,
                "learning_rate": 0.001,
                "total_steps": 6,
                "warmup_steps": 2,
                "save_steps": 3,
                "eval_steps": 3,
                "save_total_limit": 2,
                "mixed_precision": False,
                "gradient_checkpointing": True,
                "device": "cpu",
                "output_dir": str(tmp_path / "checkpoints"),
            }
        )
    )
    model_config = ModelConfig.from_file(tmp_path / "model_config.json")
    config = TrainingConfig.from_file(tmp_path / "training_config.json")
    assert DataConfig().train_split == 0.9

    def train(resume_from_checkpoint: Path | None) -> object:
        return PretrainingTrainer(
            model=create_model_from_config(model_config),
            config=config,
            model_config=model_config,
            device_manager=device_manager,
        ).train(
            train_loader=DataLoader(dataset["train"], batch_size=4, shuffle=True),
            val_loader=DataLoader(dataset["validation"], batch_size=4),
            resume_from_checkpoint=resume_from_checkpoint,
        )

    train(None)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()}
    assert names == {"step_3", "step_6", "best", "final"}
    first = (tmp_path / "checkpoints" / "final" / "model.safetensors").read_bytes()
    train(tmp_path / "checkpoints" / "step_3")
    assert (tmp_path / "checkpoints" / "final" / "model.safetensors").read_bytes() == first


def test_the_other_ways_to_collect_return_the_same_file(tmp_path: Path) -> None:
    text, second, third = make_documents(3)
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": second}) + "\n")
    collector = DataCollector(tmp_path / "corpus")
    paths = {
        collector.collect_from_files([tmp_path / "a.txt"]),
        collector.collect_from_texts([third]),
        collector.collect_from_jsonl(tmp_path / "b.jsonl"),
    }
    assert paths == {tmp_path / "corpus" / "collected_texts.jsonl"}
    assert len(paths.pop().read_text().splitlines()) == 3
    with pytest.raises((BloomeryError, NotImplementedError), match="collect_from_api"):
        collector.collect_from_api(query="x")
