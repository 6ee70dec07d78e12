import hashlib
import json
import sys
from pathlib import Path

import pytest

import tokenization.tokenizer_report as report_module
from core.errors import ConfigError, DataError
from tests.tokenization.foreign import gpt2_like, tiktoken_file, tiktoken_ranks
from tests.tokenization.hostile_text import corpus
from tests.tokenization.test_tokenizer_trainer import train, write_jsonl
from tokenization.tokenizer import Tokenizer
from tokenization.tokenizer_report import references_on_this_machine, report_tokenizer

CODE = "def strike(iron):\n    return iron.hot  # the smith\n" * 8
PROSE = "the smith heated the iron in the furnace " * 8


@pytest.fixture(autouse=True)
def no_references_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "none"))
    monkeypatch.setitem(sys.modules, "whisper", None)
    monkeypatch.setattr(report_module.importlib.util, "find_spec", lambda _: None)


@pytest.fixture(scope="session")
def jsonl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [
        *(
            {
                "text": CODE + f"# {n}\n",
                "source": f"code/{n}.py",
                "metadata": {"code": True, "language": "en"},
            }
            for n in range(6)
        ),
        *(
            {"text": PROSE + f"{n}", "source": f"books/{n}.txt", "metadata": {"language": "en"}}
            for n in range(4)
        ),
        {"text": "東京へ行きました。" * 30, "source": "books/far.txt", "metadata": {"language": "ja"}},
        {"text": "ſ", "source": "short.txt"},
        {"text": "", "source": "empty.txt", "metadata": None},
    ]
    return write_jsonl(tmp_path_factory.mktemp("report") / "c.jsonl", records)


def test_bytes_and_tokens_add_up_by_every_key(bpe: Tokenizer, jsonl: Path) -> None:
    report = report_tokenizer(bpe, jsonl)
    records = [json.loads(line) for line in jsonl.read_text(encoding="utf-8").splitlines()]
    texts = [record["text"] for record in records if record["text"]]
    overall = report["compression"]["overall"]
    assert overall["documents"] == len(texts) == report["sample"]["documents"]
    assert overall["bytes"] == sum(len(text.encode()) for text in texts) == report["sample"]["bytes"]
    assert overall["tokens"] == sum(len(bpe.encode(text)) for text in texts)
    assert overall["bytes_per_token"] == round(overall["bytes"] / overall["tokens"], 4)
    for key, names in {
        "by_source": {"code", "books", ".txt"},
        "by_language": {"en", "ja", "unknown"},
        "by_kind": {"code", "prose"},
    }.items():
        rows = report["compression"][key]
        assert set(rows) == names
        for count in ("documents", "bytes", "tokens"):
            assert sum(row[count] for row in rows.values()) == overall[count]
    japanese = report["compression"]["by_language"]["ja"]
    assert japanese["tokens"] == len(bpe.encode("東京へ行きました。" * 30))
    words = sum(len(text.split()) for text in texts)
    assert report["tokens_per_word"] == round(overall["tokens"] / words, 4)
    json.dumps(report, allow_nan=False)


def test_unused_tokens_bytes_and_longest_tokens_are_counted(tmp_path: Path, jsonl: Path) -> None:
    tokenizer = train([PROSE + " xylophone xylophone"] * 3, tmp_path, 300)
    report = report_tokenizer(tokenizer, jsonl)
    used = set()
    num_bytes = 0
    for line in jsonl.read_text(encoding="utf-8").splitlines():
        ids = tokenizer.encode(json.loads(line)["text"])
        used |= set(ids)
        num_bytes += sum(16 <= token < 272 for token in ids)
    learned = set(range(272, tokenizer.vocab_size))
    assert report["unused_tokens"]["count"] == len(learned - used) > 0
    assert report["unused_tokens"]["share"] == round(len(learned - used) / len(learned), 4)
    assert (
        report["unused_tokens"]["examples"]
        == [tokenizer.decode([token]) for token in sorted(learned - used)][:20]
    )
    assert report["byte_tokens"]["tokens"] == num_bytes > 0
    lengths = [entry["bytes"] for entry in report["longest_tokens"]]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] == max(tokenizer.byte_lengths)
    longest = report["longest_tokens"][0]
    assert tokenizer.decode([longest["id"]]) == longest["text"]


def test_the_worst_documents_are_named_by_source(bpe: Tokenizer, jsonl: Path, tmp_path: Path) -> None:
    latin = train([PROSE, CODE], tmp_path, 330)
    worst = report_tokenizer(latin, jsonl)["worst_documents"]
    assert worst[0]["source"] == "books/far.txt"
    assert worst[0]["bytes_per_token"] == 1.0
    assert worst[0]["excerpt"].startswith("東京へ")
    values = [entry["bytes_per_token"] for entry in worst]
    assert values == sorted(values)
    assert "short.txt" not in {entry["source"] for entry in worst}


def test_a_lossy_tokenizer_fails_the_round_trip_and_a_lossless_one_does_not(
    bpe: Tokenizer, jsonl: Path, tmp_path: Path
) -> None:
    assert report_tokenizer(bpe, jsonl)["round_trip"] == {"documents": 12, "different": 0, "sources": []}
    lossy = train([PROSE, CODE], tmp_path, 40, "word_level")
    found = report_tokenizer(lossy, jsonl)
    assert found["round_trip"]["different"] == 12
    assert found["round_trip"]["sources"][0] == "code/0.py"
    assert found["tokenizer"]["lossless"] is False and found["tokenizer"]["losses"]


def test_named_references_are_measured_on_the_same_documents(
    bpe: Tokenizer, jsonl: Path, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    gpt2_like().save(str(path))
    report = report_tokenizer(bpe, jsonl, references=[path])
    (reference,) = report["references"]
    assert reference["name"] == str(path)
    other = Tokenizer.from_file(path)
    assert reference["vocab_size"] == other.vocab_size
    assert reference["compression"]["overall"]["bytes"] == report["compression"]["overall"]["bytes"]
    code = [CODE + f"# {n}\n" for n in range(6)]
    expected = sum(len(other.encode(text)) for text in code)
    assert reference["compression"]["by_kind"]["code"]["tokens"] == expected


def test_published_vocabularies_on_this_machine_are_found(
    jsonl: Path, bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tiktoken_file(tiktoken_ranks())
    published = {hashlib.sha256(content).hexdigest(): "gpt2"}
    monkeypatch.setattr("tokenization.tokenizer_files.PATTERN_OF_SHA256", published)
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
    assert references_on_this_machine() == {}
    # tiktoken's own name for the file of cl100k_base
    (cache / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4").write_bytes(content)
    package = tmp_path / "whisper" / "assets"
    package.mkdir(parents=True)
    (package / "gpt2.tiktoken").write_bytes(content)

    class Found:
        submodule_search_locations = (str(package.parent),)

    monkeypatch.setattr(
        report_module.importlib.util, "find_spec", lambda name: Found if name == "whisper" else None
    )
    names = [reference["name"] for reference in report_tokenizer(bpe, jsonl)["references"]]
    assert names == ["GPT-4 (cl100k)", "GPT-2"]


def test_a_large_corpus_is_sampled_the_same_every_time(bpe: Tokenizer, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", [{"text": text} for text in corpus(num_texts=120)])
    first = report_tokenizer(bpe, path, max_bytes=20_000)
    assert 15_000 < first["sample"]["bytes"] <= 20_000
    assert first == report_tokenizer(bpe, path, max_bytes=20_000)


def test_of_a_long_document_only_the_beginning_counts(
    bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "MAX_DOCUMENT_BYTES", 10)
    path = write_jsonl(tmp_path / "c.jsonl", [{"text": "日本語テキスト"}])
    assert report_tokenizer(bpe, path)["sample"]["bytes"] == 9


def test_a_corpus_without_text_and_a_missing_reference_are_refused(
    bpe: Tokenizer, jsonl: Path, tmp_path: Path
) -> None:
    empty = write_jsonl(tmp_path / "empty.jsonl", [{"text": ""}])
    with pytest.raises(DataError, match=r"empty\.jsonl: no text to report on"):
        report_tokenizer(bpe, empty)
    with pytest.raises(ConfigError, match=r"none\.json: no such tokenizer"):
        report_tokenizer(bpe, jsonl, references=[tmp_path / "none.json"])
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": 3}\n')
    with pytest.raises(DataError, match=r"broken\.jsonl:1: no text under 'text'"):
        report_tokenizer(bpe, broken)
