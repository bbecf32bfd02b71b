"""Character-level BPE through sentencepiece: the vocabulary that RoBERTa is compared with.

BERT's 30K entries are of this kind: pieces of cleaned, lower-cased words, and `<unk>` for
characters that are not among them. The special ids are RoBERTa's.
"""

import collections
import dataclasses
import io
import re
from collections.abc import Iterable, Iterator

from roberta_jax.data import sentencepiece_model
from roberta_jax.data.json_tokenizer import BLANK, JsonTokenizer
from roberta_jax.data.sentencepiece_model import SentencePieceModel
from roberta_jax.data.transformers_layout import FIRST_SPECIAL_TOKENS
from roberta_jax.errors import UserError

# sentencepiece's rules: NFKC, control characters left out, all blanks alike, and "_cf" in lower
# case. With "identity" the text stays as it is, and a tab is unknown.
NORMALIZATIONS = ("nmt_nfkc_cf", "nmt_nfkc", "identity")
# One character in 100,000 may be unknown: the rare ones of other scripts, each of which would take
# an entry that a word needs.
CHARACTER_COVERAGE = 0.99999
# The trainer leaves out sentences that are longer than it is told or have its own signs for
# "unknown" and "end of word", so it gets words, cut if need be, and none of these signs.
LONGEST_WORD_CHARACTERS = 1 << 16
_LONGEST_SENTENCE_BYTES = 1 << 20
_UNKNOWN_SIGN = "\u2585"
_TRAINER_SIGNS = re.compile(f"[{_UNKNOWN_SIGN}\t\0]")


def train_char_bpe(
    texts: Iterable[str], vocab_size: int, normalization: str = NORMALIZATIONS[0]
) -> JsonTokenizer:
    """Learns a vocabulary of exactly `vocab_size` entries; the same texts give the same vocabulary.

    Memory grows with the number of different words, not with the text.

    Raises:
      UserError: the texts do not hold enough for this size, or too many characters; the message
        says which sizes they allow.
    """
    rule = rule_bytes(normalization)
    learned = learn(count_words(texts, sentencepiece_model.parse(rule)), vocab_size)
    # In protobuf's encoding, two messages one behind the other are one, the later values counting.
    model = sentencepiece_model.parse(learned + rule)
    special = [
        dataclasses.replace(piece, text=token)
        for piece, token in zip(model.pieces, FIRST_SPECIAL_TOKENS, strict=False)
    ]
    model = dataclasses.replace(model, pieces=(*special, *model.pieces[len(special) :]))
    return sentencepiece_model.as_tokenizer(model, "the trained vocabulary")


def rule_bytes(normalization: str) -> bytes:
    """A serialized model without pieces that normalizes by the rule of this name."""
    import sentencepiece  # Slow to load, and needed for training only.

    if normalization not in NORMALIZATIONS:
        raise UserError(
            f"normalization is {normalization!r}; it must be one of {', '.join(NORMALIZATIONS)}."
        )
    rule = sentencepiece.SentencePieceNormalizer(rule_name=normalization)
    return bytes(rule.serialized_model_proto())


def count_words(texts: Iterable[str], rule: SentencePieceModel) -> dict[str, int]:
    """How often each normalized word occurs, sorted by word.

    Pieces never reach over a blank, so the words and their counts are all that BPE learns from.
    """
    raw: collections.Counter[str] = collections.Counter()
    for text in texts:
        raw.update(text.replace("\n", " ").split(" "))
    normalize = sentencepiece_model.normalizer_of(rule).normalize_str
    words: collections.Counter[str] = collections.Counter()
    for word, count in raw.items():
        for part in normalize(word).split(BLANK):
            for piece in _TRAINER_SIGNS.split(part):
                for start in range(0, len(piece), LONGEST_WORD_CHARACTERS):
                    words[piece[start : start + LONGEST_WORD_CHARACTERS]] += count
    return dict(sorted(words.items()))


def learn(words: dict[str, int], vocab_size: int, num_threads: int = 1) -> bytes:
    """A sentencepiece model of `vocab_size` - 1 pieces, which lacks `<mask>`.

    Its first four pieces are special, and have other names than ours: the trainer leaves out their
    names in the text, and "</s>" in a text is text.

    Raises UserError as `train_char_bpe` does.
    """
    import sentencepiece

    if not words:
        raise UserError("The text has no words to learn from: nothing is left of it when cleaned.")
    model = io.BytesIO()
    bos, pad, eos, unk = (token + _UNKNOWN_SIGN for token in FIRST_SPECIAL_TOKENS)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(words),
            input_format="tsv",
            model_writer=model,
            model_type="bpe",
            vocab_size=max(vocab_size - 1, len(FIRST_SPECIAL_TOKENS) + 1),
            character_coverage=CHARACTER_COVERAGE,
            normalization_rule_name="identity",  # The words are normalized.
            max_sentence_length=_LONGEST_SENTENCE_BYTES,
            num_threads=num_threads,
            minloglevel=2,
            bos_id=0,
            pad_id=1,
            eos_id=2,
            unk_id=3,
            bos_piece=bos,
            pad_piece=pad,
            eos_piece=eos,
            unk_piece=unk,
        )
    except RuntimeError as error:
        raise _explained(str(error), vocab_size) from error
    return model.getvalue()


def _lines(words: dict[str, int]) -> Iterator[str]:
    return (f"{word}\t{count}" for word, count in words.items())


def _explained(message: str, vocab_size: int) -> Exception:
    """What is wrong with the size, from sentencepiece's message, whose numbers lack `<mask>`."""
    if found := re.search(r"too high \(\d+\).* <= (\d+)", message):
        most = int(found[1]) + 1
        return UserError(
            f"vocab_size is {vocab_size}, but this text has pieces enough for {most} entries only. "
            f"Give more text, or a vocab_size of at most {most}."
        )
    if found := re.search(r"smaller than required_chars. \d+ vs (\d+)", message):
        least = int(found[1]) + 1
        return UserError(
            f"vocab_size is {vocab_size}, but this text has so many different characters that it "
            f"must be at least {least}: the characters and 5 special tokens."
        )
    return RuntimeError(f"sentencepiece cannot learn a vocabulary of {vocab_size}: {message}")
