r"""Texts as sequences of 64-bit word hashes, the same for spellings of one text. Knows no duplicates and no files.

What counts as a word, so that editions of one book and copies of one file come out alike:

- upper and lower case, accents and compatibility forms are one letter (`É` is `e`, `ﬁ` is `fi`, `Ａ` is `a`);
- letters and digits make words, everything else divides them: curly quotes, dashes of any length, markup;
- apostrophes and underscores vanish: `don’t` is `dont`, `_Alice_` (italics in plain text) is `alice`, and
  `snake_case` stays one word;
- invisible characters (soft hyphens, joiners, byte-order marks) and vowel points vanish too;
- in scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character is a word, and so is an
  emoji.
"""

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
"""One unsigned 64-bit hash a word (or n-gram), in the order of the text."""

BLOCK_BYTES: Final = 1 << 17
"""Bytes hashed at a time, so that the arrays in between stay in the second-level cache: 3.4 ns a character at 2^16 to
2^18, 6.4 at 2^14 and 5.4 at 2^20 (measured on English prose, Xeon with 2 MB of L2)."""

_LANE_BYTES: Final = 8
_MAX_LANES: Final = 8
"""Words beyond 64 bytes (base64, hexadecimal, 'aaaa...') are hashed one by one: the loop over lanes would take time in
proportion to the longest word times the number of blocks."""

_SPACE: Final = 32
_VANISH: Final = 0
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789"
_VANISHING: Final = b"'_"
_ASCII: Final = bytes(byte if byte in _LETTERS else _SPACE for byte in bytes(range(256)).lower())
"""Translation of ASCII bytes: words in lower case, a space for everything else."""

# Flags above the 21 bits of a code point.
_ALONE: Final = 1 << 30
_SEVERAL: Final = 1 << 31
_FOLDED_POINTS: Final = 0x20000
"""Code points that have an entry in the table: the first two planes. The next two hold Chinese characters alone, and
what comes after them is no text."""

_WITHOUT_SPACES: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # the signs for "repeat", "close" and zero
    (0x3041, 0x312F),  # kana, bopomofo
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Chinese
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x17000, 0x18DFF),  # Tangut, Khitan
    (0x1B000, 0x1B2FF),
    (0x1F000, 0x1FAFF),  # emoji, cards, tiles
)
_IDENTITY: Final = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0x17000, 0x18E00))
"""Half-open ranges of letters that fold to themselves: Chinese, Hangul syllables, Tangut. Filled without asking for
each of 67,000 characters."""
_APOSTROPHES: Final = frozenset("\u2018\u2019\u201b\u02bb\u02bc\uff07\u00b4")
_VARIATION_SELECTORS: Final = range(0xFE00, 0xFE10)

_LANE_MASKS: Final = np.array([(1 << (8 * length)) - 1 for length in range(_LANE_BYTES + 1)], dtype=np.uint64)
# The finaliser of MurmurHash3 (Appleby 2011), a bijection of 64 bits in which each bit of the input changes half of
# the output; and the golden ratio in 64 bits (Knuth, The Art of Computer Programming, section 6.4).
_MIX_1: Final = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2: Final = np.uint64(0xC4CEB9FE1A85EC53)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT: Final = np.uint64(33)


def word_hashes(text: str) -> Hashes:
    """One hash for each word of `text`, uint64 (W,); see the module for what a word is.

    Equal words have equal hashes, in every process, on every machine, in every text. Of words up to 8 bytes no two
    have the same hash; of longer ones two given words do with odds of 2^-64. Takes time linear in the text:
    200 MB/cpu-s of English prose in long texts, 70 in texts of 2 kB; 170 of French, 90 of Chinese (Xeon).

    Letters that a later version of Unicode adds are punctuation to a Python that does not know them yet.

    >>> bool((word_hashes("“Don’t,” said Alice—") == word_hashes("'don't' said _Alice_")).all())
    True
    """
    return _hash_words(_words(text))


def ngrams_of_texts(texts: Sequence[str], n: int) -> tuple[Hashes, npt.NDArray[np.intp]]:
    """`ngram_hashes(word_hashes(text), n)` of all texts, one text behind the other, and how many each has, (T,).

    Of short texts that is cheaper than one by one: a call of NumPy costs as much as going through a kilobyte.
    """
    hashes = _hash_words(b" \0 ".join(map(_words, texts)))
    # No word has a byte 0, and of words up to 8 bytes only this one has the hash 0.
    borders = np.concatenate([[-1], np.flatnonzero(hashes == 0), [len(hashes)]])
    ngrams = ngram_hashes(hashes, n)
    stays = np.ones(len(ngrams), np.bool_)
    across = borders[1:-1, None] - np.arange(n)
    stays[across[(across >= 0) & (across < len(ngrams))]] = False
    return ngrams[stays], np.maximum(np.diff(borders) - n, 0)


def ngram_hashes(hashes: Hashes, n: int) -> Hashes:
    """One hash for each run of `n` >= 1 words, uint64 (W - n + 1,); empty when there are fewer words.

    Order counts: `a b` and `b a` differ.
    """
    assert n >= 1, n
    count = len(hashes) - n + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    ngrams = hashes[:count].copy()
    for offset in range(1, n):
        ngrams *= _MIX_2
        ngrams += hashes[offset : offset + count]
    return mix(ngrams)


def mix(hashes: Hashes) -> Hashes:
    """`hashes` themselves, each bit of them made to depend on every other: a bijection, done in place."""
    hashes ^= hashes >> _SHIFT
    hashes *= _MIX_1
    hashes ^= hashes >> _SHIFT
    hashes *= _MIX_2
    hashes ^= hashes >> _SHIFT
    return hashes


def _words(text: str) -> bytes:
    """The words of `text` in UTF-8, between spaces."""
    return _ascii_words(text) if text.isascii() else _folded_words(text)


def _ascii_words(text: str) -> bytes:
    return text.encode("ascii").translate(_ASCII, _VANISHING)


def _folded_words(text: str) -> bytes:
    """The words of `text` in UTF-8, lower case and without accents, between spaces."""
    folded = _fold(text)
    if folded.max() >= _SEVERAL:
        folded = _fold(_expand(text, np.flatnonzero(folded >= _SEVERAL)))
    alone = folded >= _ALONE
    if alone.any():
        folded = _set_apart(folded, alone)
    kept: npt.NDArray[np.uint32] = folded[folded != _VANISH]
    if kept.max(initial=0) < 128:
        return kept.astype(np.uint8).tobytes()
    return kept.astype("<u4").tobytes().decode("utf-32-le").encode("utf-8")


def _fold(text: str) -> npt.NDArray[np.uint32]:
    """The table's entry for each character of `text`."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    folded = _folding()[0].take(points, mode="clip")
    beyond = points >= _FOLDED_POINTS
    if beyond.any():
        chinese = points[beyond]
        folded[beyond] = np.where(chinese < 2 * _FOLDED_POINTS, chinese | _ALONE, _SPACE)
    return folded


def _expand(text: str, places: npt.NDArray[np.intp]) -> str:
    """`text` with the letters behind the characters at `places`, which become several."""
    # By place, not with a regular expression of 1,100 characters: that took 50 ns a character of the whole text.
    expansions = _folding()[1]
    parts: list[str] = []
    begin = 0
    for place in places.tolist():
        parts += (text[begin:place], expansions[text[place]])
        begin = place + 1
    return "".join((*parts, text[begin:]))


def _set_apart(folded: npt.NDArray[np.uint32], alone: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """`folded` with a space on either side of each character that is `alone`."""
    places = np.arange(len(folded)) + 2 * np.cumsum(alone) - alone
    apart = np.full(len(folded) + 2 * int(alone.sum()), _SPACE, dtype=np.uint32)
    apart[places] = folded & (_ALONE - 1)
    return apart


def _hash_words(words: bytes) -> Hashes:
    """The hashes of the maximal runs of bytes other than a space in `words`."""
    # A space in front and behind makes every word begin and end inside; eight more let the last lane be read.
    buffer = b" " + words + b" " * (_LANE_BYTES + 1)
    length = len(words) + 2
    parts: list[Hashes] = []
    begin = 0
    while not parts or begin < length - 1:
        end = _block_end(buffer, begin, length)
        parts.append(_hash_block(buffer, begin, end))
        begin = end - 1
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _block_end(buffer: bytes, begin: int, length: int) -> int:
    """Where the block that begins with the space at `begin` ends, just behind a space further on."""
    target = begin + BLOCK_BYTES
    if target >= length:
        return length
    space = buffer.rfind(b" ", begin + 1, target)
    return (buffer.find(b" ", target) if space < 0 else space) + 1


def _hash_block(buffer: bytes, begin: int, end: int) -> Hashes:
    """The hashes of the words in `buffer[begin:end]`, which begins and ends with a space."""
    # A view of eight bytes at every offset: a word is read by one load and one mask, not byte by byte.
    first = np.frombuffer(buffer, dtype="<u8", count=1, offset=begin)
    lanes = np.lib.stride_tricks.as_strided(first, shape=(end - begin,), strides=(1,), writeable=False)
    inside = np.frombuffer(buffer, dtype=np.uint8, count=end - begin, offset=begin) != _SPACE
    edges = (inside[1:] != inside[:-1]).nonzero()[0]
    edges += 1
    starts, lengths = edges[0::2], edges[1::2] - edges[0::2]

    hashes = lanes[starts].astype(np.uint64, copy=False)
    hashes &= _LANE_MASKS.take(lengths, mode="clip")
    longer = np.flatnonzero(lengths > _LANE_BYTES)
    for lane in range(1, _MAX_LANES):
        if not len(longer):
            break
        rest = lengths[longer] - lane * _LANE_BYTES
        chained = hashes[longer] * _GOLDEN
        chained ^= chained >> _SHIFT
        chained ^= lanes[starts[longer] + lane * _LANE_BYTES] & _LANE_MASKS.take(rest, mode="clip")
        hashes[longer] = chained
        longer = longer[rest > _LANE_BYTES]
    for index in longer:
        word = buffer[begin + starts[index] : begin + starts[index] + lengths[index]]
        hashes[index] = int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")
    return mix(hashes)


@lru_cache(maxsize=1)
def _folding() -> tuple[npt.NDArray[np.uint32], Mapping[str, str]]:
    """(table, expansions): what each code point becomes, and the letters behind those that become several.

    An entry is a code point, `_SPACE` or `_VANISH`; `_ALONE` is added for a word by itself, and `_SEVERAL` stands for a
    key of `expansions`. Made on first use, in about 0.1 s.
    """
    table = np.full(_FOLDED_POINTS, _SPACE, dtype=np.uint32)
    for first, behind in _IDENTITY:
        table[first:behind] = np.arange(first, behind, dtype=np.uint32)
    expansions: dict[str, str] = {}
    for point in range(_FOLDED_POINTS):
        if table[point] != _SPACE:
            continue
        character = chr(point)
        letters = _letters_of(character)
        if len(letters) > 1:
            expansions[character] = letters
            table[point] = _SEVERAL
        else:
            table[point] = ord(letters) if letters else _VANISH
    for first, last in _WITHOUT_SPACES:
        table[first : last + 1][table[first : last + 1] >= 128] |= _ALONE
    # Compatibility forms (half-width kana, ideographs repeated for round trips) stand alone as what they fold to does.
    plain = table < _ALONE
    table[plain] |= table[table[plain]] & _ALONE
    return table, expansions


def _letters_of(character: str) -> str:
    """The letters and digits that `character` counts as; a space when it divides words, nothing when it vanishes."""
    if character.isascii():
        return character.encode().translate(_ASCII, _VANISHING).decode()
    category = unicodedata.category(character)
    if character in _APOSTROPHES or category == "Cf" or ord(character) in _VARIATION_SELECTORS:
        return ""
    if category in ("Cn", "Co", "Cs", "Cc"):
        return " "
    if category == "So" and ord(character) >= 0x1F000:
        return character
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    # Accents and points have a combining class; 0 are the vowel signs of Indian scripts and 9 their viramas, without
    # which words would lose what tells them apart.
    kept = [mark for mark in decomposed if unicodedata.combining(mark) in (0, 9)]
    letters = "".join(letter if unicodedata.category(letter)[0] in "LNM" else " " for letter in kept)
    return letters if not letters.isspace() else " "
