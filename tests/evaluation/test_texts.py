import json
import math
from pathlib import Path

import pytest
import torch

from core.errors import DataError
from evaluation.run_places import DataPlaces
from evaluation.texts import Text, evaluate_texts, texts_in_file, texts_of_split
from tests.small_texts import make_documents

TEXTS = [
    Text("the furnace is hot. " * 40, "books/a.txt"),
    Text("iron", "books/b.txt"),
    Text("slag and ore and charcoal", "notes.md"),
    Text("", "empty.txt"),
]


def by_hand(model, text: str) -> tuple[float, int, int]:
    """Nats, tokens and tokens that were the likeliest, token by token; a window begins with the last token before."""
    ids = [*model.start_ids, *model.encode([text])[0]]
    nats, right = 0.0, 0
    for place in range(1, len(ids)):
        begin = (place - 1) // model.context * model.context
        with torch.no_grad():
            scores = model.logits(model.features(torch.tensor([ids[begin:place]]))[0, -1:]).double()[0]
        nats -= float(scores.log_softmax(-1)[ids[place]])
        right += int(scores.argmax()) == ids[place]
    return nats, len(ids) - 1, right


def test_figures_equal_sums_over_single_tokens_as_a_whole_by_source_and_by_length(
    tiny_language_model,
) -> None:
    found = evaluate_texts(tiny_language_model, TEXTS, description="")
    counted = [by_hand(tiny_language_model, text.text) for text in TEXTS]
    sizes = [len(text.text) for text in TEXTS]

    def check(figures: dict, *indices: int) -> None:
        nats = sum(counted[i][0] for i in indices)
        tokens = sum(counted[i][1] for i in indices)
        assert figures["num_tokens"] == tokens
        assert figures["loss_nats"] == pytest.approx(nats / tokens, rel=1e-5)
        assert figures["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)
        assert figures["bits_per_byte"] == pytest.approx(
            nats / math.log(2) / sum(sizes[i] for i in indices), rel=1e-5
        )
        assert figures["token_accuracy"] == pytest.approx(sum(counted[i][2] for i in indices) / tokens)

    check(found, 0, 1, 2, 3)
    check(found["by_source"]["books"], 0, 1)
    check(found["by_source"]["."], 2, 3)
    check(found["by_length"]["below 1 kB"], 0, 1, 2, 3)
    assert found["num_documents"] == 4


def test_documents_are_sorted_into_lengths_and_a_limit_reads_the_first(tiny_language_model) -> None:
    texts = [Text("ab " * n, "x") for n in (1, 500, 2000)]
    found = evaluate_texts(tiny_language_model, texts, description="")
    assert list(found["by_length"]) == ["below 1 kB", "1 to 4 kB", "4 to 16 kB"]
    assert evaluate_texts(tiny_language_model, texts, description="", limit=1)["num_bytes"] == 3
    with pytest.raises(DataError, match="no text in 1 documents"):
        evaluate_texts(tiny_language_model, [Text("", "x")], description="empty")


def test_a_foreign_model_is_measured_by_the_bytes_of_the_text_too(foreign_language_model) -> None:
    found = evaluate_texts(foreign_language_model, TEXTS, description="")
    assert found["num_bytes"] == sum(len(text.text) for text in TEXTS)
    assert 0 < found["bits_per_byte"] < 100


def test_files_are_read_and_broken_ones_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("plain")
    assert [t.text for t in texts_in_file(tmp_path / "a.txt")] == ["plain"]
    path = tmp_path / "b.jsonl"
    path.write_text('{"text": "one", "source": "s/x"}\n\n{"text": "two"}\n')
    assert list(texts_in_file(path)) == [Text("one", "s/x"), Text("two", "b.jsonl")]
    path.write_text('{"text": "one"}\n{"content": "two"}\n')
    with pytest.raises(DataError, match=r"b\.jsonl:2: expected an object with a \"text\""):
        list(texts_in_file(path))
    path.write_text('{"text": "one"}\n{"text"\n')
    with pytest.raises(DataError, match=r"b\.jsonl:2: not JSON"):
        list(texts_in_file(path))
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"c\.txt: not UTF-8"):
        list(texts_in_file(tmp_path / "c.txt"))
    with pytest.raises(DataError, match=r"d\.txt: cannot be read"):
        list(texts_in_file(tmp_path / "d.txt"))


def test_the_documents_of_a_split_are_those_that_the_dataset_put_there(
    tmp_path: Path, small_tokenizer_directory: Path
) -> None:
    from data_processing.dataset_builder import DatasetBuilder

    corpus = tmp_path / "corpus" / "collected_texts.jsonl"
    corpus.parent.mkdir()
    lines = [{"text": text, "source": f"{i}.txt", "id": str(i)} for i, text in enumerate(make_documents(80))]
    corpus.write_text("".join(json.dumps(line) + "\n" for line in lines))
    builder = DatasetBuilder(small_tokenizer_directory, 64)
    with builder.build_from_jsonl(corpus, 0.8, 0.1, 0.1) as dataset:
        builder.save_dataset(dataset, tmp_path / "dataset")
    places = DataPlaces(tmp_path / "corpus", tmp_path / "dataset")
    counts = json.loads((tmp_path / "dataset" / "dataset_report.json").read_text())["splits"]
    for split in ("train", "validation", "test"):
        texts = [text.text for text in texts_of_split(places, split)]
        assert len(texts) == counts[split]["documents"]
        assert sum(len(text.encode()) for text in texts) == counts[split]["text_bytes"]
    corpus.unlink()
    with pytest.raises(
        DataError, match=r"collected_texts\.jsonl: not there, so the documents of test are not known"
    ):
        list(texts_of_split(places, "test"))
