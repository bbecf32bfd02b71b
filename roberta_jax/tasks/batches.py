"""Rows of similar length → batches of few shapes, in an order that is a function of (seed, epoch).

Fillers make up the last batch, so that all have the same number of rows; they weigh nothing.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from roberta_jax.tasks.features import NO_LABEL, TaskRows

# Rows are sorted by length within so many batches that were drawn together. It must be a small
# share of an epoch: were all rows sorted, every epoch would have the same batches.
SORTED_BATCHES = 50
SORTED_SHARE = 1 / 8
SHORTEST = 16  # Tokens of the smallest shape.

Batch = tuple[np.ndarray, int]  # Numbers of predictions int64 [b], b <= B, and padded length.


@dataclasses.dataclass(frozen=True, slots=True)
class TaskBatch:
    """A batch of B predictions, T tokens a row; K rows a prediction of a choice, otherwise 1.

    Attributes:
      tokens: int32 [B * K, T], the K rows of a prediction one after the other.
      token_types: int32 [B * K, T], 1 in the second text; None for models without token types.
      targets: as in `TaskRows`: [B], or [B, 2] of span, or int32 [B, T] of tokens, filled up with
        NO_LABEL. None for a split without labels.
      weights: float32 [B], 1, or 0 for rows that only fill up the batch.
    """

    tokens: np.ndarray
    token_types: np.ndarray | None
    targets: np.ndarray | None
    weights: np.ndarray


def padded_lengths(max_length: int) -> tuple[int, ...]:
    """The lengths that rows are filled up to: 16, 32, 64, 96, 128, 192, 256, …, `max_length`."""
    usual, power = [SHORTEST, 2 * SHORTEST], 4 * SHORTEST
    while power < max_length:
        usual += [power, power * 3 // 2]
        power *= 2
    return (*(length for length in usual if length < max_length), max_length)


def row_lengths(rows: TaskRows) -> np.ndarray:
    """Tokens of the longest row of each prediction, int64 [N]."""
    lengths = np.array([len(row) for row in rows.ids], np.int64)
    return lengths.reshape(-1, rows.group_size).max(axis=1)


class Batches:
    """The batches of every epoch, each row once an epoch.

    What is in a batch is drawn by (seed, epoch). In which order short and long batches come is
    drawn by the epoch alone, so that runs of several seeds have nearly the same lengths at the same
    step and can be trained side by side.
    """

    def __init__(self, lengths: np.ndarray, *, batch_size: int, max_length: int, seed: int):
        """Of predictions with so many tokens.

        Args:
          lengths: int [N], N at least 1; see `row_lengths`.
          batch_size: predictions a batch.
          max_length: the longest shape; no row is longer.
          seed: 0 or more.
        """
        assert len(lengths) and lengths.max() <= max_length
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._padded = np.array(padded_lengths(max_length))
        self.steps_per_epoch = -(-len(lengths) // batch_size)
        self._last_epoch = functools.lru_cache(1)(self._make_epoch)

    def epoch(self, epoch: int) -> list[Batch]:
        """The batches of an epoch, from 0 on: numbers of predictions, and padded length."""
        return list(self._last_epoch(epoch))

    def at(self, step: int) -> Batch:
        """The batch of a step, from 0 on, through all epochs."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._last_epoch(epoch)[place]

    def _make_epoch(self, epoch: int) -> list[Batch]:
        order = _generator(self._seed, epoch).permutation(len(self._lengths))
        sorted_batches = max(1, min(SORTED_BATCHES, int(self.steps_per_epoch * SORTED_SHARE)))
        # Those left over are drawn by chance, not because they are the longest.
        num_full = len(order) // self._batch_size * self._batch_size
        borders = [*range(0, num_full, self._batch_size * sorted_batches), num_full, len(order)]
        batches: list[Batch] = []
        for begin, end in itertools.pairwise(borders):
            batches += _sorted_batches(
                order[begin:end], self._lengths, self._batch_size, self._padded
            )
        places = np.random.Generator(np.random.Philox(key=epoch)).permutation(len(batches))
        return [batches[place] for place in places]


def evaluation_batches(
    lengths: np.ndarray, *, size_at: Callable[[int], int], max_length: int
) -> Iterator[tuple[np.ndarray, int, int]]:
    """Every prediction once, the longest first: what does not fit into memory shows at once.

    Args:
      lengths: of the predictions, in tokens.
      size_at: padded length → how many predictions are made at once.
      max_length: tokens of the longest shape.

    Yields:
      Numbers of predictions, their padded length, and what `size_at` says of it.
    """
    order, padded = np.argsort(-lengths, kind="stable"), np.array(padded_lengths(max_length))
    begin = 0
    while begin < len(order):
        length = int(padded[np.searchsorted(padded, lengths[order[begin]])])
        size = size_at(length)
        yield order[begin : begin + size], length, size
        begin += size


def _sorted_batches(
    numbers: np.ndarray, lengths: np.ndarray, batch_size: int, padded: np.ndarray
) -> list[Batch]:
    numbers = numbers[np.argsort(lengths[numbers], kind="stable")]
    parts = [numbers[begin : begin + batch_size] for begin in range(0, len(numbers), batch_size)]
    # The last row of a part is its longest.
    return [(part, int(padded[np.searchsorted(padded, lengths[part[-1]])])) for part in parts]


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, epoch]))


def assemble(
    rows: TaskRows,
    numbers: np.ndarray,
    padded_length: int,
    *,
    batch_size: int,
    pad_id: int,
    token_types: bool,
) -> TaskBatch:
    """The batch with these predictions first, filled up to `batch_size` by copies of the first.

    Args:
      rows: of a split.
      numbers: int [b] of predictions, 1 <= b <= batch_size, none longer than `padded_length`.
      padded_length: T.
      batch_size: B.
      pad_id: fills up short rows.
      token_types: whether the model has them.
    """
    assert 0 < len(numbers) <= batch_size
    fillers = np.full(batch_size - len(numbers), numbers[0])
    chosen = np.concatenate([numbers, fillers])
    of_rows = (chosen[:, None] * rows.group_size + np.arange(rows.group_size)).ravel()
    tokens = _filled_up([rows.ids[number] for number in of_rows.tolist()], padded_length, pad_id)
    types = None
    if token_types:
        place = np.arange(padded_length)
        ends = np.array([len(rows.ids[number]) for number in of_rows.tolist()])
        starts = rows.second_starts[of_rows]
        types = ((place >= starts[:, None]) & (place < ends[:, None])).astype(np.int32)
    weights = (np.arange(batch_size) < len(numbers)).astype(np.float32)
    targets = rows.targets
    if isinstance(targets, np.ndarray):
        targets = targets[chosen]
    elif targets is not None:  # A label for every token.
        targets = _filled_up(
            [targets[number] for number in chosen.tolist()], padded_length, NO_LABEL
        )
        targets[len(numbers) :] = NO_LABEL
    return TaskBatch(tokens, types, targets, weights)


def _filled_up(rows: Sequence[np.ndarray], length: int, filler: int) -> np.ndarray:
    """int32 [rows, length]."""
    filled = np.full((len(rows), length), filler, np.int32)
    for place, row in enumerate(rows):
        filled[place, : len(row)] = row
    return filled
