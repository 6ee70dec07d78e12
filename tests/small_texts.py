"""English-like text made from nothing, the same for the same seed."""

import random

WORDS = [
    "the",
    "a",
    "ore",
    "iron",
    "furnace",
    "coal",
    "air",
    "charcoal",
    "bloom",
    "slag",
    "hammer",
    "smith",
    "fire",
    "heat",
    "draws",
    "melts",
    "makes",
    "strikes",
    "holds",
    "iron",
    "is",
    "was",
    "hot",
    "red",
    "bright",
    "slow",
    "and",
    "or",
    "of",
    "with",
    "under",
    "over",
    "in",
    "on",
    "water",
    "stone",
    "clay",
    "smoke",
    "morning",
    "night",
    "worker",
]


def make_text(generator: random.Random, num_sentences: int) -> str:
    """English-like sentences of random words."""
    sentences = []
    for _ in range(num_sentences):
        words = [generator.choice(WORDS) for _ in range(generator.randint(4, 12))]
        sentences.append(" ".join(words).capitalize() + ".")
    return " ".join(sentences)


def make_documents(number: int, seed: int = 0) -> list[str]:
    """Different documents of 5 to 20 sentences."""
    generator = random.Random(seed)
    return [
        f"Report {index}.\n\n" + make_text(generator, generator.randint(5, 20)) + "\n"
        for index in range(number)
    ]
