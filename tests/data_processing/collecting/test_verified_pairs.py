"""Similarities kept between collections: found again by their texts, never wrong, and saving their work."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from core.data_config import DataConfig
from data_processing.collecting import verified_pairs
from data_processing.collecting.shard_files import write_array, write_bytes
from data_processing.collecting.shard_store import ShardStore
from data_processing.collecting.verified_pairs import read_verified, verified_prefix, write_verified
from data_processing.data_collector import DataCollector
from data_processing.duplicates import near_duplicates
from data_processing.duplicates.near_duplicates import PairSimilarities
from tests.small_texts import make_documents

Digest = tuple[int, int]


@pytest.fixture(params=["path", "address"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ShardStore:
    place = tmp_path / "shards"
    return ShardStore(str(place) if request.param == "path" else f"file://{place}")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified_pairs, "PIECE_PAIRS", 40)


def parts_of(texts: Sequence[Digest], num_parts: int = 3) -> list[np.ndarray]:
    return np.array_split(np.array(texts, np.uint64).reshape(-1, 2), num_parts)


def random_pairs(num_documents: int, num_pairs: int) -> tuple[list[Digest], PairSimilarities]:
    generator = np.random.default_rng(7)
    texts = [tuple(row) for row in generator.integers(1, 2**63, (num_documents, 2), np.uint64).tolist()]
    first = generator.integers(0, num_documents - 1, num_pairs)
    second = generator.integers(first + 1, num_documents)
    unique = np.unique(np.stack([first, second], axis=1), axis=0)
    values = generator.random(len(unique))
    return texts, PairSimilarities.of(unique[:, 0], unique[:, 1], values)


def by_text(pairs: PairSimilarities, texts: Sequence[Digest]) -> dict[frozenset[Digest], float]:
    columns = (pairs.first.tolist(), pairs.second.tolist(), pairs.similarity.tolist())
    return {frozenset({texts[one], texts[other]}): value for one, other, value in zip(*columns, strict=True)}


def test_pairs_of_texts_that_are_still_there_are_found_wherever_they_stand(store: ShardStore):
    texts, pairs = random_pairs(200, 150)
    write_verified(store, pairs, parts_of(texts))
    assert len([name for name in store.list() if name.startswith(verified_prefix())]) == 4
    # Every third text is gone, the order is another, new ones and copies have come.
    today = [(n, n) for n in range(1, 30)] + texts[::-1][1::3] + texts[::3] + texts[:90:3]
    numbers = {text: number for number, text in reversed(list(enumerate(today)))}
    first = np.array([numbers[text] for text in today])
    found = read_verified(store, parts_of(today, 5), first)
    expected = {pair: value for pair, value in by_text(pairs, texts).items() if pair <= set(today)}
    assert 0 < len(expected) < len(pairs.first)
    assert by_text(found, today) == expected
    assert (first[found.first] == found.first).all() and (first[found.second] == found.second).all()
    order = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert order == sorted(order) and all(one < other for one, other in order)


def test_what_is_written_replaces_all_of_what_was_there(store: ShardStore):
    texts, pairs = random_pairs(200, 150)
    everything = np.arange(len(texts))
    write_verified(store, pairs, parts_of(texts))
    few = PairSimilarities(pairs.first[:41], pairs.second[:41], pairs.similarity[:41])
    write_verified(store, few, parts_of(texts))
    assert len(store.list()) == 2
    assert by_text(read_verified(store, parts_of(texts), everything), texts) == by_text(few, texts)


def test_texts_whose_digests_begin_alike_are_not_confused(store: ShardStore):
    texts = [(5, 1), (5, 2), (6, 3)]
    pairs = PairSimilarities.of(np.array([0]), np.array([2]), np.array([0.9]))
    write_verified(store, pairs, parts_of(texts))
    today = [(5, 2), (6, 3)]
    assert len(read_verified(store, parts_of(today), np.arange(2)).first) == 0


def test_nothing_is_known_where_nothing_was_kept(store: ShardStore):
    assert len(read_verified(store, [], np.arange(0)).first) == 0
    assert len(read_verified(store, parts_of([(1, 1)]), np.arange(1)).first) == 0


# --- whole collections ---


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Forty texts in four versions each, which differ in a word or two."""
    root = tmp_path / "raw"
    root.mkdir()
    for number, text in enumerate(make_documents(40, seed=17)):
        for version in range(4):
            write_version(root, text, number, version)
    return root


def write_version(root: Path, text: str, number: int, version: int) -> None:
    words = (text * 3).split(" ")
    words[5 * version] = f"version{version}"
    (root / f"{number:03}-{version}.txt").write_text(" ".join(words))


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The similarities that were computed, as they are computed."""
    values: list[float] = []
    real = near_duplicates.jaccard

    def counting(first: np.ndarray, second: np.ndarray) -> float:
        values.append(real(first, second))
        return values[-1]

    monkeypatch.setattr(near_duplicates, "jaccard", counting)
    return values


def collect(raw: Path, out: Path) -> dict[str, bytes]:
    DataCollector(out, config=DataConfig(num_workers=1)).collect_from_directory(raw)
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()}


def kept_files(out: Path) -> list[Path]:
    return sorted((out / ".cache" / "shards" / "verified").iterdir())


def test_after_a_file_is_added_only_its_pairs_are_compared_and_the_bytes_are_those_of_collecting_anew(
    raw: Path, tmp_path: Path, compared: list[float]
):
    collect(raw, tmp_path / "out")
    assert len(compared) >= 120
    compared.clear()
    collect(raw, tmp_path / "out")
    assert compared == []
    write_version(raw, make_documents(40, seed=17)[7], 7, 9)
    again = collect(raw, tmp_path / "out")
    assert 1 <= len(compared) <= 4
    compared.clear()
    assert collect(raw, tmp_path / "anew") == again
    assert len(compared) >= 120
    dropped = [json.loads(line) for line in again["dropped.jsonl"].splitlines()]
    assert {line["reason"] for line in dropped} == {"near_duplicate"} and len(dropped) == 121


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace_by_text(path: Path) -> None:
    path.write_text("Somebody's letter.")


def replace_by_other_array(path: Path) -> None:
    write_array(ShardStore(str(path.parent)), path.name, np.arange(9.0))


def replace_by_other_shard(path: Path) -> None:
    write_bytes(ShardStore(str(path.parent)), path.name, b"whole, but no array")


@pytest.mark.parametrize(
    "damage", [shorten, flip, replace_by_text, replace_by_other_array, replace_by_other_shard]
)
def test_a_damaged_or_foreign_file_is_said_and_made_anew(
    raw: Path,
    tmp_path: Path,
    compared: list[float],
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
):
    before = collect(raw, tmp_path / "out")
    files = {path: path.read_bytes() for path in kept_files(tmp_path / "out")}
    assert len(files) > 2
    damaged = next(iter(files))
    damage(damaged)
    compared.clear()
    assert collect(raw, tmp_path / "out") == before
    assert f"{damaged.name}: damaged or not ours" in caplog.text
    assert 1 <= len(compared) <= 40  # the pairs of this piece alone
    assert {path: path.read_bytes() for path in kept_files(tmp_path / "out")} == files


def test_another_version_finds_nothing_of_this_one_and_deletes_it(
    raw: Path, tmp_path: Path, compared: list[float], monkeypatch: pytest.MonkeyPatch
):
    before = collect(raw, tmp_path / "out")
    files = kept_files(tmp_path / "out")
    compared.clear()
    monkeypatch.setattr(verified_pairs, "SIMILARITY_VERSION", -1)
    assert collect(raw, tmp_path / "out") == before
    assert len(compared) >= 120
    assert not set(files) & set(kept_files(tmp_path / "out"))
