"""A passage that is too long for a row → windows that overlap (BERT's run_squad.py)."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """What a row shows of a question's passage.

    Attributes:
      example: number of the question in its split.
      offsets: int32 [t, 2], the characters [begin, end) of the passage that each token of the row
        stands for; -1 for tokens that are not of the passage.
      best: bool [t], tokens of the passage that have more context in this window than in any other
        (BERT's `token_is_max_context`); an answer may begin there only.
    """

    example: int
    offsets: np.ndarray
    best: np.ndarray
