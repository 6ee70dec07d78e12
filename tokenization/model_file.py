"""The contents of a SentencePiece model file. Knows the protobuf wire format, not how text is encoded.

Read here and not through `sentencepiece_model_pb2`, because that needs the protobuf package, and because the
settings that decide the ids (normaliser, trainer) are not offered by `SentencePieceProcessor`. The numbers of
the fields are those of sentencepiece_model.proto; the format is protobuf.dev/programming-guides/encoding.
"""

import enum
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

from core.errors import DataError

SPACE_SYMBOL = "\u2581"
"""What SentencePiece writes for a space inside its pieces."""

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
FIXED_SIZES = {FIXED64: 8, FIXED32: 4}

MODEL_PIECES, MODEL_TRAINER, MODEL_NORMALIZER, MODEL_DENORMALIZER = 1, 2, 3, 5
PIECE_TEXT, PIECE_SCORE, PIECE_TYPE = 1, 2, 3
TRAINER_MODEL_TYPE, TRAINER_INPUT_FORMAT, TRAINER_NUM_THREADS = 3, 7, 16
TRAINER_SUFFIX, TRAINER_BYTE_FALLBACK = 24, 35
NORMALIZER_NAME, NORMALIZER_CHARSMAP = 1, 2
NORMALIZER_DUMMY_PREFIX, NORMALIZER_EXTRA_SPACES, NORMALIZER_ESCAPE = 3, 4, 5

MODEL_TYPES = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


class PieceType(enum.IntEnum):
    """What a piece is for; the numbers are SentencePiece's."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    """One token: its text (with `SPACE_SYMBOL` for a space), its score (higher is preferred) and its type."""

    text: str
    score: float
    type: PieceType


class ModelFile(NamedTuple):
    """What a model file says. `settings` holds everything besides the pieces that changes ids.

    Attributes:
        normalizer: Name of the rules by which text is normalised, such as "nmt_nfkc"; "" = by none.
        charsmap: Those rules, as the library has them compiled; empty for none.
        denormalizes: Whether text is rewritten after decoding.
    """

    pieces: tuple[Piece, ...]
    model_type: str
    settings: dict[str, bool | str]
    normalizer: str
    charsmap: bytes
    denormalizes: bool


class Field(NamedTuple):
    """One field of a message: its number, its wire type, and its value (an integer only for VARINT)."""

    number: int
    wire_type: int
    value: int | bytes


def parse_model(data: bytes) -> ModelFile:
    """The vocabulary and the settings in the bytes of a SentencePiece model.

    Raises:
        DataError: the bytes are no SentencePiece model; the message has no file name, the caller knows it.
    """
    try:
        fields = read_fields(data)
        pieces = tuple(_parse_piece(_bytes(f.value)) for f in fields if f.number == MODEL_PIECES)
        trainer = _last_values(fields, MODEL_TRAINER)
        normalizer = _last_values(fields, MODEL_NORMALIZER)
        denormalizer = [f for f in fields if f.number == MODEL_DENORMALIZER and f.value]
        model_type = MODEL_TYPES[_number(trainer.get(TRAINER_MODEL_TYPE, 1))]
        charsmap = _bytes(normalizer.get(NORMALIZER_CHARSMAP, b""))
        name = _bytes(normalizer.get(NORMALIZER_NAME, b"")).decode("utf-8") or "rules of its own"
    except (IndexError, KeyError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise DataError(f"not a SentencePiece model ({type(error).__name__}: {error})") from None
    if not pieces:
        raise DataError("not a SentencePiece model (it holds no pieces)")
    settings: dict[str, bool | str] = {
        "model_type": model_type,
        # A default stands for an absent field, as in the .proto file.
        "byte_fallback": bool(trainer.get(TRAINER_BYTE_FALLBACK, 0)),
        "treat_whitespace_as_suffix": bool(trainer.get(TRAINER_SUFFIX, 0)),
        "add_dummy_prefix": bool(normalizer.get(NORMALIZER_DUMMY_PREFIX, 1)),
        "remove_extra_whitespaces": bool(normalizer.get(NORMALIZER_EXTRA_SPACES, 1)),
        "escape_whitespaces": bool(normalizer.get(NORMALIZER_ESCAPE, 1)),
        "normalizes": bool(charsmap) or bool(denormalizer),
    }
    return ModelFile(pieces, model_type, settings, name if charsmap else "", charsmap, bool(denormalizer))


def canonical_model(
    data: bytes, *, round_score: Callable[[float], float], rename: Callable[[str], str] = lambda text: text
) -> bytes:
    """The same model without the number of training threads and the format of the training text, with each score passed
    through `round_score` and the text of each piece through `rename`.

    SentencePiece records both, though they change no id.
    """
    of_the_training = (TRAINER_NUM_THREADS, TRAINER_INPUT_FORMAT)

    def rewrite(field: Field) -> Field:
        if field.number == MODEL_TRAINER:
            kept = [f for f in read_fields(_bytes(field.value)) if f.number not in of_the_training]
            return field._replace(value=write_fields(kept))
        if field.number == MODEL_PIECES:
            inner = [_rewritten(f, round_score, rename) for f in read_fields(_bytes(field.value))]
            return field._replace(value=write_fields(inner))
        return field

    return write_fields([rewrite(field) for field in read_fields(data)])


def with_control_pieces(data: bytes, names: Iterable[str]) -> bytes:
    """The same model with more tokens behind its own, to which no text is encoded."""
    fields = read_fields(data)
    behind = max(place for place, field in enumerate(fields) if field.number == MODEL_PIECES) + 1
    added = [
        Field(
            MODEL_PIECES,
            LENGTH,
            write_fields(
                [
                    Field(PIECE_TEXT, LENGTH, name.encode()),
                    Field(PIECE_SCORE, FIXED32, struct.pack("<f", 0.0)),
                    Field(PIECE_TYPE, VARINT, PieceType.CONTROL),
                ]
            ),
        )
        for name in names
    ]
    return write_fields([*fields[:behind], *added, *fields[behind:]])


def read_fields(data: bytes) -> list[Field]:
    """The fields of one protobuf message, in their order.

    Raises:
        ValueError, IndexError: the bytes are no protobuf message.
    """
    fields = []
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        wire_type = key & 7
        value: int | bytes
        if wire_type == VARINT:
            value, position = _read_varint(data, position)
        else:
            if wire_type == LENGTH:
                size, position = _read_varint(data, position)
            elif wire_type in FIXED_SIZES:
                size = FIXED_SIZES[wire_type]
            else:
                raise ValueError(f"wire type {wire_type} at byte {position}")
            value = data[position : position + size]
            if len(value) < size:
                raise ValueError(f"the file ends inside a field of {size} bytes at byte {position}")
            position += size
        fields.append(Field(key >> 3, wire_type, value))
    return fields


def write_fields(fields: Iterable[Field]) -> bytes:
    """The protobuf message of `fields`; the inverse of `read_fields`."""
    out = bytearray()
    for number, wire_type, value in fields:
        out += _varint(number << 3 | wire_type)
        if isinstance(value, int):
            out += _varint(value)
        else:
            if wire_type == LENGTH:
                out += _varint(len(value))
            out += value
    return bytes(out)


def _parse_piece(data: bytes) -> Piece:
    values = {field.number: field.value for field in read_fields(data)}
    (score,) = struct.unpack("<f", _bytes(values.get(PIECE_SCORE, bytes(4))))
    return Piece(
        _bytes(values[PIECE_TEXT]).decode("utf-8"),
        score,
        PieceType(_number(values.get(PIECE_TYPE, PieceType.NORMAL))),
    )


def _rewritten(field: Field, round_score: Callable[[float], float], rename: Callable[[str], str]) -> Field:
    if field.number == PIECE_TEXT:
        return field._replace(value=rename(_bytes(field.value).decode("utf-8")).encode())
    if field.number == PIECE_SCORE:
        (score,) = struct.unpack("<f", _bytes(field.value))
        return field._replace(value=struct.pack("<f", round_score(score)))
    return field


def _last_values(fields: list[Field], number: int) -> dict[int, int | bytes]:
    # Of a field that is set twice the last value holds, in protobuf as in a dict.
    inner = b"".join(_bytes(field.value) for field in fields if field.number == number)
    return {field.number: field.value for field in read_fields(inner)}


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"a number ({value}) where bytes belong")
    return value


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError(f"{len(value)} bytes where a number belongs")
    return value


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than 64 bits at byte {position}")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
