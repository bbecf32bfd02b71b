"""Texts → rows of ids, and rows → batches of few shapes, so that few programs are compiled."""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import TruncationWarning, UserError

SHORTEST = 16  # Tokens of the shortest rows.


def checked_length(ids: list[int], limit: int, *, strict: bool) -> list[int]:
    """The row itself if the model can take it, else its beginning, still ended by its last id.

    Args:
      ids: a row with its special ids.
      limit: tokens that the model takes.
      strict: refuse instead of cutting.
    """
    if len(ids) <= limit:
        return ids
    what = f"The text has {len(ids):,} tokens, and this model takes at most {limit:,}"
    if strict:
        raise UserError(f"{what}. Shorten it, or let it be truncated.")
    warnings.warn(f"{what}: its end was left out.", TruncationWarning, stacklevel=4)
    return [*ids[: limit - 1], ids[-1]]


def rows_of(
    texts: Sequence[str], tokenizer: Tokenizer, limit: int, *, strict: bool
) -> list[list[int]]:
    """`<s> text </s>` of every text."""
    if isinstance(texts, str):
        raise UserError("Give a list of texts, not one text: [text].")
    texts = list(texts)
    if odd := [text for text in texts if not isinstance(text, str)]:
        raise UserError(f"Texts must be strings; one is {odd[0]!r}.")
    rows = []
    for ids in tokenizer.encode_batch(texts):
        rows.append(checked_length(tokenizer.row(ids), limit, strict=strict))
    return rows


def batches(
    rows: Sequence[Sequence[int]], *, pad_id: int, limit: int, tokens_per_batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields rows of similar length together.

    Both sides of a batch are powers of two (the longer one at most `limit`), filled up with
    padding. A batch has at most `tokens_per_batch` tokens, or is one row.

    Yields:
      (numbers [b], tokens [B, T] int32) with B >= b: the rows with these numbers come first.
    """
    order = np.argsort([len(row) for row in rows], kind="stable")
    begin = 0
    while begin < len(order):
        # The longest row that still fits decides the shape; rows are taken from the short end.
        length = _power_of_two(max(len(rows[order[begin]]), SHORTEST), limit)
        most = max(tokens_per_batch // length, 1)
        taken = [number for number in order[begin : begin + most] if len(rows[number]) <= length]
        tokens = np.full((_power_of_two(len(taken), most), length), pad_id, np.int32)
        for place, number in enumerate(taken):
            tokens[place, : len(rows[number])] = rows[number]
        yield np.array(taken), tokens
        begin += len(taken)


def _power_of_two(count: int, most: int) -> int:
    return min(1 << (count - 1).bit_length(), most)
