"""The tokens that stand for no text, at ids that never change. Knows nothing of how they are used in training."""

UNK_TOKEN = "<unk>"
BOS_TOKEN = "<s>"
EOS_TOKEN = "</s>"
PAD_TOKEN = "<pad>"

SYSTEM_TOKEN = "<|system|>"
USER_TOKEN = "<|user|>"
ASSISTANT_TOKEN = "<|assistant|>"
END_TOKEN = "<|end|>"

ROLE_TOKENS = {"system": SYSTEM_TOKEN, "user": USER_TOKEN, "assistant": ASSISTANT_TOKEN}
"""What opens a turn of each role. `END_TOKEN` closes every turn."""

NUM_RESERVED_TOKENS = 8
"""Rows of the embedding kept for later control tokens, so that adding one needs no new model. Arbitrary."""

SPECIAL_TOKENS = (
    UNK_TOKEN,
    BOS_TOKEN,
    EOS_TOKEN,
    PAD_TOKEN,
    *ROLE_TOKENS.values(),
    END_TOKEN,
    *(f"<|reserved_{number}|>" for number in range(NUM_RESERVED_TOKENS)),
)
"""Every special token; the position is the id. User text never encodes to one of them."""

UNK_ID, BOS_ID, EOS_ID, PAD_ID = range(4)

BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""The names of the tokens for single bytes, as SentencePiece, tokenizers and llama.cpp spell them."""

SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + len(BYTE_TOKENS)
"""Tokens that every vocabulary holds before the first piece of text."""
