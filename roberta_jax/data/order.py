"""Which row is example k of a run, by arithmetic: of one dataset, or of a mixture of several."""

import dataclasses
import fractions
import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from roberta_jax.errors import UserError

# A mixture repeats the same sequence of datasets after so many examples; weights are rounded to it.
PATTERN_EXAMPLES = 10_000
# One for each round of a shuffle: multiples of the golden ratio's share of 2^64.
_ROUND_KEYS = np.arange(8, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def evenly_spaced(num_rows: int, count: int) -> np.ndarray:
    """At most `count` row numbers [n] int64, from the first on; always the same ones."""
    chosen = min(num_rows, count)
    return np.arange(chosen, dtype=np.int64) * num_rows // max(chosen, 1)


class Order(Protocol):
    """Example number → row and epoch; the same in every process, at any place, at no cost."""

    def locate(self, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and epochs of examples.

        Args:
          examples: numbers [n] int64, 0 or more, without end.

        Returns:
          Number of the row [n] int64, and passes over its dataset before this one [n] int64.
        """


class ShuffledOrder:
    """All rows of a dataset in every epoch, shuffled anew each time.

    The permutation of an epoch is a Feistel network over the next power of four, walked until it is
    inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"): the place of any row
    is computed by itself, thousands at once, without a table of all of them.
    """

    def __init__(self, num_rows: int, seed: int):
        """`seed` is in [0, 2^32)."""
        self._num_rows, self._seed = num_rows, np.uint64(seed)
        self._half_bits = np.uint64(max((num_rows - 1).bit_length() + 1, 2) // 2)
        self._half_mask = (np.uint64(1) << self._half_bits) - np.uint64(1)

    def locate(self, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Order.locate`."""
        epoch, place = np.divmod(examples, self._num_rows)
        keys = _mixed(_mixed(epoch.astype(np.uint64)) ^ self._seed)  # [n], of each one's epoch.
        index = self._permuted(place.astype(np.uint64), keys)
        while (outside := index >= self._num_rows).any():
            index[outside] = self._permuted(index[outside], keys[outside])
        return index.astype(np.int64), epoch

    def _permuted(self, place: np.ndarray, keys: np.ndarray) -> np.ndarray:
        left, right = place >> self._half_bits, place & self._half_mask
        for round_key in _ROUND_KEYS:
            scrambled = _mixed(right ^ (keys + round_key))
            left, right = right, left ^ (scrambled & self._half_mask)
        return (left << self._half_bits) | right


def _mixed(x: np.ndarray) -> np.ndarray:
    """Spreads every bit over all others: the finalizer of SplitMix64, on uint64 [n]."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class MixedOrder:
    """Rows of several datasets in turn, in fixed proportions, each dataset in its own order.

    Rows are numbered through all datasets. Every stretch of examples has the datasets in the given
    proportions, as evenly as whole numbers allow.
    """

    def __init__(self, num_rows: Sequence[int], weights: Sequence[float], seed: int):
        """Mixes datasets of `num_rows` rows each by `weights`, which need not sum to 1.

        Raises:
          UserError: a weight is negative, infinite or too small, or there are not as many as
            datasets.
        """
        quotas = _quotas(weights, len(num_rows))
        dataset = np.repeat(np.arange(len(quotas)), quotas)
        occurrence = np.concatenate([np.arange(quota) for quota in quotas])
        self._quotas = np.array(quotas, np.int64)
        # Occurrence j of a dataset with q of them is wanted at (j + 1/2) / q of the pattern. No
        # rounding changes the order: unequal ones are at least 1 / q^2 apart.
        wanted = (2 * occurrence + 1) / (2 * self._quotas[dataset])
        pattern = np.lexsort((dataset, wanted))
        self._dataset, self._occurrence = dataset[pattern], occurrence[pattern]
        self._first_rows = [0, *itertools.accumulate(num_rows)]
        self._orders = [
            ShuffledOrder(count, (seed + number) % 2**32) for number, count in enumerate(num_rows)
        ]

    def locate(self, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Order.locate`."""
        cycle, place = np.divmod(examples, PATTERN_EXAMPLES)
        dataset = self._dataset[place]
        number = cycle * self._quotas[dataset] + self._occurrence[place]  # Within the dataset.
        index, epoch = np.empty_like(examples), np.empty_like(examples)
        for i, order in enumerate(self._orders):
            mine = dataset == i
            index[mine], epoch[mine] = order.locate(number[mine])
            index[mine] += self._first_rows[i]
        return index, epoch


@dataclasses.dataclass(frozen=True, slots=True)
class _Share:
    number: int
    exact: fractions.Fraction  # Of the pattern.


def _quotas(weights: Sequence[float], count: int) -> list[int]:
    """Examples of each dataset in a pattern, by largest remainders."""
    if len(weights) != count:
        raise UserError(
            f"There are {len(weights)} weights for {count} datasets; give one for each."
        )
    if not all(0 < weight < float("inf") for weight in weights):
        raise UserError(
            f"The weights are {', '.join(map(str, weights))}; they must be positive numbers."
        )
    exact = [fractions.Fraction(weight) for weight in weights]
    shares = [
        _Share(number, weight / sum(exact) * PATTERN_EXAMPLES)
        for number, weight in enumerate(exact)
    ]
    quotas = [int(share.exact) for share in shares]
    by_remainder = sorted(shares, key=lambda share: (int(share.exact) - share.exact, share.number))
    for share in by_remainder[: PATTERN_EXAMPLES - sum(quotas)]:
        quotas[share.number] += 1
    if min(quotas) == 0:
        raise UserError(
            f"The weights are {', '.join(map(str, weights))}; each must be at least "
            f"1/{PATTERN_EXAMPLES:,} of their sum."
        )
    return quotas
