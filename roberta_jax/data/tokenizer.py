"""What every tokenizer gives: text to ids and back, special ids, rows, a folder."""

import abc
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from roberta_jax.errors import UserError


class Tokenizer(abc.ABC):
    """Text to ids and back; a model needs to know no more of a vocabulary than this.

    Raw text never yields a special id: the text "<mask>" is encoded like any other characters,
    except by `encode_with_masks`.

    Attributes:
      kind: how text becomes tokens, such as "byte_bpe".
      vocab_size: number of entries, special ones included.
      bos_id, pad_id, eos_id, unk_id, mask_id: ids of `<s>`, `<pad>`, `</s>`, `<unk>`, `<mask>`
        (BERT: `[CLS]`, `[PAD]`, `[SEP]`, `[UNK]`, `[MASK]`).
      mask_token: how `<mask>` is spelled.
      double_separator: whether two `</s>` stand between the texts of a pair, as in RoBERTa.
      special_ids: sorted ids that stand for no text; never masked, never a random replacement.
      fingerprint: 16 hexadecimal digits that depend on what decides the ids, not on the files'
        formatting.
    """

    kind: str
    vocab_size: int
    bos_id: int
    pad_id: int
    eos_id: int
    unk_id: int
    mask_id: int
    mask_token: str
    double_separator: bool
    special_ids: tuple[int, ...]
    fingerprint: str

    @abc.abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without `<s>` and `</s>`, computed on all cores."""

    @abc.abstractmethod
    def encode_with_masks(self, text: str) -> list[int]:
        """Ids of a text in which `mask_token` stands for the mask id."""

    @abc.abstractmethod
    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and for each the characters [begin, end) of `text` that it stands for.

        The blank before a word is not counted. Tokens that are parts of one character have the
        same offsets.
        """

    @abc.abstractmethod
    def encode_sentences(
        self, sentence_groups: Sequence[Sequence[str]], *, blank_between: bool = False
    ) -> list[np.ndarray]:
        """Ids of groups of sentences, each sentence followed by `</s>`: one uint32 [n] per group.

        Args:
          sentence_groups: sentences without line breaks and without white space at their ends.
          blank_between: whether a sentence behind another is encoded with the blank before it, as
            in running text, where the script has blanks (`blank_follows`). It makes no difference
            to vocabularies in which a text's first word has a blank too.
        """

    @abc.abstractmethod
    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `ids`, special ids left out or spelled."""

    @abc.abstractmethod
    def pieces(self) -> list[bytes]:
        """What every entry stands for, by id; a blank in front where it begins a word."""

    @abc.abstractmethod
    def save(self, folder: str | pathlib.Path) -> None:
        """Writes the files that `load_tokenizer` and transformers' `AutoTokenizer` read."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without `<s>` and `</s>`."""
        return self.encode_batch([text])[0]

    def row(self, first: Sequence[int], second: Sequence[int] | None = None) -> list[int]:
        """The ids of one text or of two as a model reads them.

        `<s> a </s>`, or `<s> a </s></s> b </s>`; BERT: `[CLS] a [SEP] b [SEP]`. An empty second
        text is a text; only None is none.
        """
        ids = [self.bos_id, *first, self.eos_id]
        if second is not None:
            ids += [*([self.eos_id] if self.double_separator else []), *second, self.eos_id]
        return ids

    def token_text(self, token_id: int) -> str:
        """One token as text for display; special tokens are spelled."""
        return self.decode([token_id], skip_special_tokens=False)

    def checked(self, token_id: int) -> int:
        """The id itself; UserError if it is outside the vocabulary."""
        if not 0 <= token_id < self.vocab_size:
            raise UserError(
                f"Token id {token_id} is outside the vocabulary, whose ids go from 0 to "
                f"{self.vocab_size - 1}."
            )
        return token_id


def blank_follows(sentence: str) -> bool:
    """Whether the next sentence is set off by a blank: not behind a CJK character or full stop."""
    return sentence[-1:] < "\u2e80"


def unicode_only(texts: Sequence[str]) -> Sequence[str]:
    """The texts themselves; UserError if one holds half a surrogate pair, which UTF-8 lacks."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"The text is not valid Unicode ({error}); give it as UTF-8."
            ) from error
    return texts
