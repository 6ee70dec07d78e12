import math
from pathlib import Path

import pytest
import torch

from core.device_manager import DeviceManager
from core.training_config import ModelConfig
from data_processing.dataset_builder import DatasetBuilder
from evaluation.perplexity import evaluate_rows
from models.transformer_lm import create_model_from_config


def test_perplexity_equals_a_sum_over_single_rows(
    small_corpus: Path, small_tokenizer_directory: Path, small_tokenizer
) -> None:
    shape = ModelConfig(
        hidden_size=32,
        num_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        vocab_size=small_tokenizer.vocab_size + 3,
    )
    model = create_model_from_config(shape, seed=0).eval()
    with DatasetBuilder(small_tokenizer_directory, 32).build_from_jsonl(
        small_corpus, 0.8, 0.1, 0.1
    ) as dataset:
        rows = dataset["test"]
        result = evaluate_rows(
            model, rows, small_tokenizer, DeviceManager("cpu"), document_masking=False, batch_size=7
        )
        nats, targets, num_bytes = 0.0, 0, 0
        with torch.no_grad():
            for index in range(len(rows)):
                row = {key: torch.from_numpy(value) for key, value in rows[index].items()}
                log_probabilities = model(row["input_ids"][None])[0].double().log_softmax(-1)
                for position, label in enumerate(row["labels"].tolist()):
                    if label != -100:
                        nats -= float(log_probabilities[position, label])
                        targets += 1
                        num_bytes += int(small_tokenizer.byte_lengths[label])
    assert result.num_targets == targets
    assert result.loss_nats == pytest.approx(nats / targets, rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(nats / targets), rel=1e-4)
    assert result.bits_per_byte == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)
