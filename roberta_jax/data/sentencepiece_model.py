"""sentencepiece's .model files → the `tokenizer.json` that gives the same ids.

The ids come from one implementation only, that of `tokenizers`, here as in transformers; the tests
compare it with sentencepiece itself.

Source: the messages of
https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto.
"""

import dataclasses
import pathlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from roberta_jax.data import transformers_layout
from roberta_jax.data.json_tokenizer import BLANK, JsonTokenizer
from roberta_jax.data.transformers_layout import FIRST_SPECIAL_TOKENS, MASK_TOKEN
from roberta_jax.errors import UserError

FILE_NAME = "sentencepiece.bpe.model"  # XLM-RoBERTa's name for it, of unigrams nevertheless.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_MODEL_TYPES = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
# The rules that sentencepiece brings along: NFKC, in two of them after fairseq's cleaning, and in
# two case-folded. Others come from a file of the model's author.
_NFKC_RULES = ("nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf")


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """An entry: its text, with `BLANK` for a blank; its score, the higher the earlier; its type."""

    text: str
    score: float
    type: int = _NORMAL


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SentencePieceModel:
    """What a .model file says, as far as it decides the ids.

    Attributes:
      kind: "unigram" or "bpe" ("word" and "char" cannot be converted).
      pieces: by id.
      byte_fallback: whether unknown characters become the bytes of their UTF-8.
      blank_is_suffix: whether words end in their blank instead of beginning with it.
      normalization: name of the rule, such as "nmt_nfkc".
      character_map: the compiled rule; empty for "identity".
      add_blank: whether a blank is put before the text.
      collapse_blanks: whether blanks at the ends go and several become one.
      escape_blanks: whether blanks are spelled `BLANK`.
    """

    kind: str
    pieces: tuple[Piece, ...]
    byte_fallback: bool = False
    blank_is_suffix: bool = False
    normalization: str = ""
    character_map: bytes = b""
    add_blank: bool = True
    collapse_blanks: bool = True
    escape_blanks: bool = True


def read_sentencepiece(path: str | pathlib.Path) -> JsonTokenizer:
    """Reads a .model file.

    Its ids are those of the file where that has RoBERTa's special tokens at 0 to 3. Otherwise they
    are XLM-RoBERTa's (fairseq's): these four, all other pieces in their order (so an ordinary model
    is shifted by one), and `<mask>`.

    Raises:
      UserError: it cannot be read, or has what `tokenizer.json` cannot say.
    """
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"The sentencepiece model {path} cannot be read ({error.strerror})."
        ) from error
    try:
        model = parse(data)
        if not model.pieces:
            raise ValueError("it has no pieces")
    except (ValueError, LookupError, TypeError, struct.error) as error:
        raise UserError(f"{path} is no sentencepiece model, or a damaged one: {error}.") from error
    if reason := _obstacle(model):
        raise UserError(
            f"The sentencepiece model {path} cannot be converted to tokenizer.json: {reason}"
        )
    return as_tokenizer(model, str(path))


def as_tokenizer(model: SentencePieceModel, place: str) -> JsonTokenizer:
    """The tokenizer of a model; `place` is what error messages call it."""
    settings = transformers_layout.json_settings()
    return JsonTokenizer(_converted(model).to_str(pretty=True), settings, place)


def parse(data: bytes) -> SentencePieceModel:
    """Reads a serialized ModelProto.

    Other bytes give nonsense, or raise ValueError, LookupError, TypeError or struct.error.
    sentencepiece's own module for that needs a protobuf of certain versions, and cannot be loaded
    beside the copy that transformers has.
    """
    pieces: list[Piece] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for field, value in _fields(data):
        if field == 1:
            piece = dict(_fields(value))
            (score,) = struct.unpack("<f", piece.get(2, bytes(4)))
            pieces.append(Piece(piece[1].decode(), score, piece.get(3, _NORMAL)))
        elif field == 2:
            trainer |= dict(_fields(value))
        elif field == 3:
            normalizer |= dict(_fields(value))
    return SentencePieceModel(
        kind=_MODEL_TYPES.get(trainer.get(3, 1), "unknown"),
        pieces=tuple(pieces),
        byte_fallback=bool(trainer.get(35, False)),
        blank_is_suffix=bool(trainer.get(24, False)),
        normalization=normalizer.get(1, b"").decode(),
        character_map=normalizer.get(2, b""),
        add_blank=bool(normalizer.get(3, True)),
        collapse_blanks=bool(normalizer.get(4, True)),
        escape_blanks=bool(normalizer.get(5, True)),
    )


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of the fields of a message in protobuf's encoding.

    Source: https://protobuf.dev/programming-guides/encoding/.
    """
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(data):
        key = varint()
        wire_type = key & 7
        if wire_type == 0:
            yield key >> 3, varint()
            continue
        if wire_type not in (1, 2, 5):
            raise ValueError(f"byte {position} begins no field")
        length = varint() if wire_type == 2 else {1: 8, 5: 4}[wire_type]
        if position + length > len(data):
            raise ValueError("it is cut off")
        yield key >> 3, data[position : position + length]
        position += length


def normalizer_of(model: SentencePieceModel) -> normalizers.Normalizer:
    """What sentencepiece does to a text before it looks for pieces, the blanks spelled `BLANK`.

    `Precompiled` alone is not sentencepiece: for what is one character to a reader, it takes the
    shortest match of the map and drops the rest, so "E" and a combining acute become "e". With
    characters composed and lower-cased first, it finds what sentencepiece finds, except that
    - several marks on a character are put into Unicode's order,
    - a mark on a character that the map replaces (on "ⓐ") is still dropped,
    - İ becomes i and a combining dot where sentencepiece leaves it.
    """
    steps: list[normalizers.Normalizer] = []
    if model.character_map:
        if model.normalization in _NFKC_RULES:
            steps.append(normalizers.NFC())
            if model.normalization.endswith("_cf"):
                steps.append(normalizers.Lowercase())
        steps.append(normalizers.Precompiled(model.character_map))
    if model.collapse_blanks:
        for pattern, content in transformers_layout.COLLAPSE_BLANKS:
            steps.append(normalizers.Replace(tokenizers.Regex(pattern), content))
    if model.add_blank:
        steps.append(normalizers.Prepend(BLANK))
    steps.append(normalizers.Replace(" ", BLANK))
    return normalizers.Sequence(steps)


def _obstacle(model: SentencePieceModel) -> str:
    if model.kind not in ("unigram", "bpe"):
        return f"it is of the type {model.kind}; unigram and bpe can."
    if model.blank_is_suffix or not model.escape_blanks:
        return "it marks blanks in another way than before words."
    rare = [
        piece.text
        for piece in model.pieces
        if piece.type in (_USER_DEFINED, _UNUSED) and piece.text != MASK_TOKEN
    ]
    if rare:
        return f"it has user-defined or unused pieces ({', '.join(rare[:5])})."
    texts = [piece.text for piece in model.pieces]
    if len(set(texts)) < len(texts):
        return "it has pieces twice."
    return ""


def _converted(model: SentencePieceModel) -> tokenizers.Tokenizer:
    pieces = _laid_out(model.pieces)
    ids = {piece.text: i for i, piece in enumerate(pieces)}
    special = [p.text for p in pieces if p.type in (_UNKNOWN, _CONTROL) or p.text == MASK_TOKEN]
    if model.kind == "unigram":
        entries = [(p.text, 0.0 if p.text in special else _short(p.score)) for p in pieces]
        algorithm: Any = models.Unigram(entries, ids["<unk>"], byte_fallback=model.byte_fallback)
    else:
        algorithm = models.BPE(
            ids,
            _merges(pieces),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
        )
    tokenizer = tokenizers.Tokenizer(algorithm)
    tokenizer.normalizer = normalizer_of(model)
    # Pieces with a blank inside, which ordinary models have not, need the text as a whole.
    split = not any(BLANK in p.text[1:] for p in pieces)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=split)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(BLANK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", int(model.add_blank), 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, ids[token]) for token in ("<s>", "</s>")],
    )
    tokenizer.add_special_tokens(
        [
            tokenizers.AddedToken(token, lstrip=token == MASK_TOKEN, normalized=False)
            for token in special
        ]
    )
    return tokenizer


def _short(score: float) -> float:
    """The float32 with its own few digits; more of them change when `tokenizers` reads JSON."""
    return float(str(np.float32(score)))


def _laid_out(pieces: tuple[Piece, ...]) -> list[Piece]:
    """The pieces by our ids."""
    if tuple(piece.text for piece in pieces[:4]) == FIRST_SPECIAL_TOKENS:
        found = list(pieces)
    else:
        found = [
            Piece(token, 0.0, _UNKNOWN if token == "<unk>" else _CONTROL)
            for token in FIRST_SPECIAL_TOKENS
        ]
        found += [
            piece
            for piece in pieces
            if piece.type != _UNKNOWN and piece.text not in (*FIRST_SPECIAL_TOKENS, MASK_TOKEN)
        ]
    if not any(piece.text == MASK_TOKEN for piece in found):
        found.append(Piece(MASK_TOKEN, 0.0, _CONTROL))
    return found


def _merges(pieces: list[Piece]) -> list[tuple[str, str]]:
    """All pairs of pieces that make a piece, in the order of the scores.

    sentencepiece joins any two neighbours whose text is a piece, best score first, whichever pair
    made the piece in training.
    """
    usable = {piece.text for piece in pieces if piece.type == _NORMAL}
    made = sorted(
        (piece for piece in pieces if piece.type == _NORMAL and len(piece.text) > 1),
        key=lambda piece: -piece.score,
    )
    return [
        (left, right)
        for piece in made
        for cut in range(len(piece.text) - 1, 0, -1)
        if (left := piece.text[:cut]) in usable and (right := piece.text[cut:]) in usable
    ]
