"""A passage that is too long for a row → windows that overlap (BERT's run_squad.py)."""

import dataclasses
from collections.abc import Sequence

import numpy as np

# BERT's: of two windows that show a token equally well, the longer one is preferred.
_LENGTH_BONUS = 0.01


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


def spans_of_windows(num_tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """The tokens [begin, end) of a passage that each window shows.

    Args:
      num_tokens: of the passage; one without tokens has one window.
      room: most tokens of a window, at least 1.
      stride: tokens from the begin of a window to that of the next, at least 1; no token is left
        out where it is more than `room`.
    """
    spans = [(0, min(room, num_tokens))]
    while spans[-1][1] < num_tokens:
        begin = spans[-1][0] + min(room, stride)
        spans.append((begin, min(begin + room, num_tokens)))
    return spans


def best_of_windows(spans: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Of each window, bool [tokens]: whether the token has its most context there.

    The context is the smaller of the numbers of tokens before and behind; every token is best in
    exactly one window.
    """
    num_tokens = spans[-1][1]
    score = np.full(num_tokens, -1.0)
    window = np.zeros(num_tokens, np.int64)
    for number, (begin, end) in enumerate(spans):
        place = np.arange(end - begin)
        context = np.minimum(place, place[::-1]) + _LENGTH_BONUS * (end - begin)
        better = context > score[begin:end]
        score[begin:end][better] = context[better]
        window[begin:end][better] = number
    return [window[begin:end] == number for number, (begin, end) in enumerate(spans)]


def tokens_of_answer(offsets: np.ndarray, begin: int, end: int) -> tuple[int, int] | None:
    """The first and the last token that overlap the characters [begin, end) of the passage.

    Args:
      offsets: int [n, 2] of all tokens of the passage.
      begin: of the answer.
      end: of the answer.

    Returns:
      None where no token does, as where the answer is nothing but blanks.
    """
    overlapping = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > begin))
    # A token without characters of its own, such as a blank, is no part of an answer.
    overlapping = overlapping[offsets[overlapping, 0] < offsets[overlapping, 1]]
    return (int(overlapping[0]), int(overlapping[-1])) if len(overlapping) else None
