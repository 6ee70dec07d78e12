"""Which split a document belongs to, from its key alone. Knows neither the documents nor how many there are."""

import hashlib
from collections.abc import Mapping

from core.errors import ConfigError

_HASH_BITS = 64


def text_key(text: str) -> str:
    """The key of a document that is like no other: 128 bits of BLAKE2b over its text, in hexadecimal."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()


def split_of(key: str, *, shares: Mapping[str, float], seed: int) -> str:
    """The split that `key` falls into, the same whatever other keys exist.

    The key is hashed to a number in [0, 1), and the splits divide that interval in their order in `shares`. So a
    document stays where it is when data is added or removed, and everything that shares a key (a cluster of
    duplicates, the questions about one topic) stays together. The shares hold on average: of n keys, a share p
    gets n p, give or take sqrt(n p (1 - p)).

    >>> split_of("textwrap.dedent", shares={"train": 0.9, "val": 0.05, "test": 0.05}, seed=1337)
    'train'

    Args:
        key: Identity of the document or of its cluster.
        shares: Share of each split (0 to 1), adding up to 1.
        seed: Another number gives another division (0 to 2**63 - 1).

    Raises:
        ConfigError: a share is negative or they do not add up to 1.
    """
    total = sum(shares.values())
    if abs(total - 1.0) > 1e-6 or any(share < 0 for share in shares.values()):
        found = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise ConfigError(
            f"shares of the splits must be 0 to 1 and add up to 1, found {found} (sum {total:g})"
        )
    digest = hashlib.blake2b(
        key.encode("utf-8", "surrogatepass"), digest_size=_HASH_BITS // 8, key=seed.to_bytes(8, "little")
    )
    position = int.from_bytes(digest.digest(), "little")
    end = 0.0
    for name, share in shares.items():
        end += share
        if position < round(end * 2**_HASH_BITS):
            return name
    # Rounding may leave a sliver at the end of the interval: it belongs to the last split that has a share.
    return next(name for name, share in reversed(list(shares.items())) if share > 0)
