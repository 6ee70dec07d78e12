"""How threads wait for each other, settled before the library that runs them is loaded. Knows no tensor."""

import os

SPIN_COUNT = "10000"
"""How often a waiting OpenMP thread (GNU's runtime, which torch uses on Linux) looks before it sleeps.

Measured on two cores, a training step of 4 x 256 tokens at width 256: with the runtime's own default 166 ms alone and
2,197 ms beside one other busy process, whose core the waiting threads then burn; with 10,000 looks 156 ms and 542 ms;
with 1,000 looks 228 ms and 325 ms."""


def share_the_machine() -> None:
    """Let waiting threads sleep early, unless the environment says how they wait. Call before torch is imported."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
