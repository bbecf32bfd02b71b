"""Examples → rows of ids with targets, as the heads of RoBERTa and BERT read them."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.tasks.examples import Example
from roberta_jax.tasks.task import Task
from roberta_jax.tasks.windows import Window

NO_LABEL = -1  # Target of a token that has none: special ids, and the later tokens of a word.


@dataclasses.dataclass(frozen=True, slots=True)
class TaskRows:
    """The rows of a split.

    Attributes:
      ids: R arrays int32 [t], special ids included, none longer than the limit.
      second_starts: int32 [R], the place of the first token of the second text, which is where
        BERT's token types become 1; the length of the row where there is one text.
      targets: of classification int32 [R], of regression float32 [R] (scaled), of choice int32
        [R / group_size], of span int32 [R, 2] (places of the first and the last token of the
        answer; 0, 0 where the row has none), of tokens R arrays int32 [t] with NO_LABEL. None in a
        split without labels.
      group_size: rows, one after the other, of which one prediction is made: the options of a
        choice, otherwise 1.
      windows: of span, what each row shows of which question; empty otherwise.
      word_places: of tokens, R arrays int32: the place of the first token of each word of the
        example; -1 for a word that was cut off. Empty otherwise.
      num_cut: rows whose text did not fit and was cut (a span's is divided into windows instead).
    """

    ids: Sequence[np.ndarray]
    second_starts: np.ndarray
    targets: np.ndarray | Sequence[np.ndarray] | None
    group_size: int = 1
    windows: Sequence[Window] = ()
    word_places: Sequence[np.ndarray] = ()
    num_cut: int = 0

    def __len__(self) -> int:
        """Predictions that are made of the rows."""
        return len(self.ids) // self.group_size
