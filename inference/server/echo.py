"""A prompt as the beginning of its answer, which OpenAI calls echo: its text and its tokens. Knows no network."""

from collections.abc import Sequence

from inference.answer_text import Answer, Piece
from inference.continuous_batch import Event
from inference.prompt_scores import PromptScores
from tokenization.tokenizer import Tokenizer


def echoed(prompt: Sequence[int], scores: PromptScores | None, tokenizer: Tokenizer) -> Piece:
    """The prompt as a piece of an answer.

    Args:
        scores: How well the model expected its tokens; None = nobody asks for them.
    """
    if scores is None:
        return Piece(tokenizer.decode(prompt), ())
    # As an answer's tokens are told: with the same names, and offsets in characters.
    answer = Answer(tokenizer)
    told = zip(prompt, scores.log_probabilities, scores.likeliest, strict=True)
    pieces = [answer.push(Event(0, token, log_p, likeliest, None)) for token, log_p, likeliest in told]
    pieces.append(answer.push(Event(0, None, None, (), "length")))
    return Piece(
        "".join(piece.text for piece in pieces), tuple(token for piece in pieces for token in piece.tokens)
    )
