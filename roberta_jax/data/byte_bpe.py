"""Byte-level BPE as GPT-2 and RoBERTa define it: text to ids and back, without loss.

The special ids are RoBERTa's: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, and `<mask>` last.
"""

import hashlib
import itertools
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from roberta_jax.data import transformers_layout
from roberta_jax.data.tokenizer import Tokenizer, blank_follows, unicode_only
from roberta_jax.data.transformers_layout import FIRST_SPECIAL_TOKENS, MASK_TOKEN
from roberta_jax.data.words import WordEncoder
from roberta_jax.errors import UserError

SMALLEST_VOCAB_SIZE = 256 + len(FIRST_SPECIAL_TOKENS) + 1
# A pair seen once is no pattern: it would spend an entry of the vocabulary on one word of one
# document.
MIN_PAIR_COUNT = 2


def _byte_of_character() -> dict[str, int]:
    """GPT-2's table: every byte as one printable character; inverse direction."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(256 + position): byte for position, byte in enumerate(others)})
    return table


BYTE_OF_CHARACTER = _byte_of_character()
NEWLINE_TOKEN = next(
    character for character, byte in BYTE_OF_CHARACTER.items() if byte == ord("\n")
)


# White space as Unicode defines it; Python's own also has the separators 1C to 1F.
_BLANKS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace()).translate(
    dict.fromkeys(range(0x1C, 0x20))
)


class LayoutError(UserError):
    """A vocabulary is not laid out as that of roberta-base."""


class ByteBpeTokenizer(Tokenizer):
    """A byte-level BPE vocabulary with RoBERTa's special ids."""

    kind = "byte_bpe"
    bos_id, pad_id, eos_id, unk_id = range(4)
    mask_token = MASK_TOKEN
    double_separator = True

    def __init__(self, vocab: dict[str, int], merges: Sequence[tuple[str, str]]):
        """Builds from entries and merge rules.

        Raises UserError when they are not laid out as RoBERTa's.
        """
        _check_layout(vocab, merges)
        self._tokens = sorted(vocab, key=vocab.__getitem__)  # [vocab_size], by id.
        self._merges = list(merges)
        self.vocab_size = len(vocab)
        self.mask_id = vocab[MASK_TOKEN]
        self.newline_id = vocab[NEWLINE_TOKEN]
        # fairseq fills its dictionary up to a multiple of 8 with entries called madeupword0000, …
        self.special_ids = tuple(sorted(vocab[token] for token in vocab if _is_special(token)))
        self._bytes = [
            token.encode() if _is_special(token) else bytes(BYTE_OF_CHARACTER[c] for c in token)
            for token in self._tokens
        ]
        content = json.dumps([self.kind, self._tokens, self._merges], ensure_ascii=True)
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()[:16]
        # Knows no special token, so that "<mask>" in a text stays text.
        self._plain = transformers_layout.byte_level(vocab, self._merges)
        self._words = WordEncoder(self._encode_words)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles what defines the tokenizer, not what it remembers."""
        return ByteBpeTokenizer, ({token: i for i, token in enumerate(self._tokens)}, self._merges)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without `<s>` and `</s>`, computed on all cores."""
        encodings = self._plain.encode_batch_fast(unicode_only(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and for each the characters [begin, end) of `text` that it stands for."""
        (text,) = unicode_only([text])
        encoding = self._plain.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def encode_sentences(
        self, sentence_groups: Sequence[Sequence[str]], *, blank_between: bool = False
    ) -> list[np.ndarray]:
        """Ids of groups of sentences, each sentence followed by `</s>`: one uint32 [n] per group.

        The sentences of a group are encoded at once, joined by line breaks. A line break next to
        text is always one token of its own, so this gives the ids of the single sentences, at a
        fraction of the time. Sentences must hold no line break and no white space at their ends.
        """
        joined = [_joined(sentences, blank_between) for sentences in sentence_groups]
        known = [self._words.knows(text) for text in joined]
        # All at once: a group ends where its last sentence does.
        ids = self._words.encode("".join(itertools.compress(joined, known)))
        ids = np.where(ids == self.newline_id, np.uint32(self.eos_id), ids)
        counts = [len(group) for group in itertools.compress(sentence_groups, known)]
        ends = np.concatenate([[0], np.flatnonzero(ids == self.eos_id) + 1])
        groups = iter(np.split(ids, ends[np.cumsum(counts)][:-1]) if counts else [])
        others = iter(
            self.encode_batch(
                [text for text, is_known in zip(joined, known, strict=True) if not is_known]
            )
        )
        return [next(groups) if is_known else self._with_ends(next(others)) for is_known in known]

    def _encode_words(self, words: Sequence[str]) -> list[list[int]]:
        """The ids of words as GPT-2's pattern cuts them.

        As lines of one text, which takes a fraction of the time of many short texts: a line break
        next to what is not white space is always one token of its own.
        """
        lines = [word for word in words if not word.isspace()]
        (ids,) = self.encode_batch(["".join(f"{word}\n" for word in lines)])
        found = np.array(ids, np.uint32)
        ends = np.flatnonzero(found == self.newline_id).tolist()
        begins = [0, *(end + 1 for end in ends)]
        of_lines = (ids[begin:end] for begin, end in zip(begins, ends, strict=False))
        of_blanks = iter(self.encode_batch([word for word in words if word.isspace()]))
        return [next(of_blanks) if word.isspace() else next(of_lines) for word in words]

    def _with_ends(self, ids: list[int]) -> np.ndarray:
        found = np.array(ids, np.uint32)
        return np.where(found == self.newline_id, np.uint32(self.eos_id), found)

    def encode_with_masks(self, text: str) -> list[int]:
        """Ids of a text in which `<mask>` stands for the mask id.

        It takes the blanks before it, as in RoBERTa.
        """
        *parts, last = text.split(MASK_TOKEN)
        first, *others = [*(part.rstrip(_BLANKS) for part in parts), last]
        ids = self.encode(first)
        for part in others:
            ids += [self.mask_id, *self.encode(part)]
        return ids

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `ids`, special ids left out or spelled.

        Bytes that are no whole character become U+FFFD.
        """
        return b"".join(
            self._bytes[i]
            for i in map(self.checked, ids)
            if not (skip_special_tokens and i in self.special_ids)
        ).decode("utf-8", errors="replace")

    def pieces(self) -> list[bytes]:
        """What every entry stands for, by id; special tokens are spelled."""
        return list(self._bytes)

    def count_unreachable(self) -> int:
        """Entries of several bytes that no merge rule makes."""
        made = {left + right for left, right in self._merges}
        return sum(
            len(token) > 1 and token not in made and not _is_special(token)
            for token in self._tokens
        )

    def save(self, folder: str | pathlib.Path) -> None:
        """Writes the files that `load_tokenizer` and transformers' `AutoTokenizer` read."""
        transformers_layout.write(pathlib.Path(folder), self._tokens, self._merges)


def train_byte_bpe(texts: Iterable[str], vocab_size: int) -> ByteBpeTokenizer:
    """Learns a vocabulary of exactly `vocab_size` entries; the same texts give the same vocabulary.

    Raises:
      UserError: the size leaves no room for the 256 bytes and the special tokens, or the texts do
        not hold enough pairs to reach it; the message says which size they reach.
    """
    if vocab_size < SMALLEST_VOCAB_SIZE:
        raise UserError(
            f"vocab_size is {vocab_size}; it must be at least {SMALLEST_VOCAB_SIZE}: the 256 bytes "
            "and 5 special tokens."
        )
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    # The trainer puts special tokens first, so `<mask>` joins afterwards.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        min_frequency=MIN_PAIR_COUNT,
        special_tokens=list(FIRST_SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    vocab = model["vocab"]
    if len(vocab) != vocab_size - 1:
        raise UserError(
            f"vocab_size is {vocab_size}, but this text has pairs enough for {len(vocab) + 1} "
            f"entries only (a pair must occur at least {MIN_PAIR_COUNT} times). Give more text, or "
            f"a vocab_size of at most {len(vocab) + 1}."
        )
    vocab[MASK_TOKEN] = len(vocab)
    return ByteBpeTokenizer(vocab, [(left, right) for left, right in model["merges"]])


def import_byte_bpe(
    vocab_json: str | pathlib.Path, merges_txt: str | pathlib.Path
) -> ByteBpeTokenizer:
    """Reads a vocabulary in the layout of roberta-base.

    Raises UserError naming what does not fit.
    """
    try:
        vocab = json.loads(pathlib.Path(vocab_json).read_text(encoding="utf-8"))
        merge_lines = pathlib.Path(merges_txt).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(
            f"A tokenizer is a folder with vocab.json and merges.txt; {error.filename} cannot be "
            f"read ({error.strerror}). `roberta-jax tokenizer` writes such a folder."
        ) from error
    except ValueError as error:
        raise UserError(
            f"The tokenizer files {vocab_json} and {merges_txt} are damaged: {error}."
        ) from error
    if not isinstance(vocab, dict) or not all(type(i) is int for i in vocab.values()):
        raise UserError(f"{vocab_json} must hold one JSON object that gives every token its id.")
    merges = []
    for number, line in enumerate(merge_lines, start=1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        parts = line.rstrip("\r").split(" ")
        if len(parts) != 2:
            raise UserError(
                f"{merges_txt}:{number} is {line!r}; a merge rule is two tokens with a blank "
                "between."
            )
        merges.append((parts[0], parts[1]))
    return ByteBpeTokenizer(vocab, merges)


def read_byte_bpe(tokenizer_json: pathlib.Path) -> ByteBpeTokenizer | None:
    """The tokenizer of a `tokenizer.json`, or None if that is not RoBERTa's byte-level BPE."""
    try:
        content = json.loads(tokenizer_json.read_text(encoding="utf-8"))
        return _byte_bpe_of(content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # Another one, or a damaged file.


def _byte_bpe_of(content: dict[str, Any]) -> ByteBpeTokenizer | None:
    splitting = content.get("pre_tokenizer") or {}
    if (
        content["model"].get("type") != "BPE"
        or content.get("normalizer")
        or splitting.get("type") != "ByteLevel"
        or splitting.get("add_prefix_space")
        or not splitting.get("use_regex", True)
    ):
        return None
    vocab = content["model"]["vocab"]
    vocab |= {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    pairs = (
        rule.split(" ") if isinstance(rule, str) else rule for rule in content["model"]["merges"]
    )
    return ByteBpeTokenizer(vocab, [(left, right) for left, right in pairs])


def _joined(sentences: Sequence[str], blank_between: bool) -> str:
    if not sentences:
        return ""
    if blank_between:
        sentences = [
            *(f"{sentence}\n{' ' * blank_follows(sentence)}" for sentence in sentences[:-1]),
            sentences[-1],
        ]
        return "".join(sentences) + "\n"
    return "\n".join(sentences) + "\n"


def _is_special(token: str) -> bool:
    return (
        token in FIRST_SPECIAL_TOKENS
        or token == MASK_TOKEN
        or re.fullmatch(r"madeupword\d{4}", token) is not None
    )


def _check_layout(vocab: dict[str, int], merges: Sequence[tuple[str, str]]) -> None:
    wanted = {token: i for i, token in enumerate(FIRST_SPECIAL_TOKENS)} | {
        MASK_TOKEN: len(vocab) - 1
    }
    wrong = [
        f"{token} is {vocab.get(token, 'missing')} and must be {i}"
        for token, i in wanted.items()
        if vocab.get(token) != i
    ]
    if wrong:
        raise LayoutError(
            f"The vocabulary of {len(vocab)} entries is not laid out as RoBERTa's: "
            f"{', '.join(wrong)}."
        )
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise LayoutError(f"The ids of the vocabulary must be 0 to {len(vocab) - 1}, each once.")
    foreign = [
        token
        for token in vocab
        if not _is_special(token) and not set(token) <= BYTE_OF_CHARACTER.keys()
    ]
    missing = BYTE_OF_CHARACTER.keys() - vocab.keys()
    if foreign or missing:
        raise LayoutError(
            f"The vocabulary is not byte-level BPE: {len(missing)} of the 256 single bytes are "
            f"missing, and {len(foreign)} entries are not spelled in GPT-2's byte characters "
            f"{foreign[:3]}."
        )
    for left, right in merges:
        if left not in vocab or right not in vocab or left + right not in vocab:
            raise LayoutError(
                f"The merge rule {left!r} + {right!r} has parts or a result outside the vocabulary."
            )
