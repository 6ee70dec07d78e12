"""Seeds split by purpose, so that drawing more numbers for one thing never changes another."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2**63) that depends on the base seed and on what it is for.

    >>> derive_seed(1337, "dropout", 12) == derive_seed(1337, "dropout", 12)
    True
    >>> derive_seed(1337, "dropout", 12) == derive_seed(1337, "order", 12)
    False
    """
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
