"""Any batch of a run, by arithmetic: example k is a function of (seed, k), whoever reads it.

The `order` says which row example k of a run is: one of N shuffled anew for every epoch, or, of a
mixture, one of several datasets in turn. A process reads the rows of each global batch that its
devices hold, so the number of processes, workers and threads changes who reads a row and never
which row it is.
There is no iterator state to save: `examples_seen` says it all.
"""

import dataclasses
import sys
from collections.abc import Generator, Iterator, Sequence

import grain
import numpy as np

from roberta_jax.data.mixture import MixedDataset, RowSource
from roberta_jax.data.order import MixedOrder, Order, ShuffledOrder, evenly_spaced
from roberta_jax.data.processes import cores
from roberta_jax.errors import UserError

# Batches that grain's threads keep ready ahead of the consumer.
READ_AHEAD_BATCHES = 4
# Two read millions of tokens per second; more wait for each other.
MOST_THREADS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a global batch that are read here, b of them."""

    tokens: np.ndarray  # [b, T] int32.
    index: np.ndarray  # [b] uint32: number of the row in the dataset.
    epoch: np.ndarray  # [b] uint32: passes over the dataset before this one.
    # [b, label_slots] int32, values of `NextSentence`; None where no labels were asked for.
    labels: np.ndarray | None = None


class Loader:
    """Endless training batches of a dataset or a mixture, from any example on."""

    def __init__(
        self,
        dataset: RowSource,
        *,
        batch_size: int,
        seed: int,
        weights: Sequence[float] = (),
        labels: bool = False,
        rows: np.ndarray | None = None,
        num_threads: int = 0,
        num_workers: int = 0,
    ):
        """Plans the order; reads nothing yet.

        Args:
          dataset: the rows; may be fewer than a batch.
          batch_size: rows of a global batch.
          seed: of the order, in [0, 2^32).
          weights: of the datasets of a mixture; none draws every row equally often.
          labels: whether batches have the next-sentence labels of their rows.
          rows: [b] ints, which rows of every global batch are read here; None reads all.
          num_threads: threads that read ahead; 0: one per core, up to `MOST_THREADS`.
          num_workers: processes that read ahead; 0 reads in this one, which is enough for rows of
            token ids.

        Raises:
          UserError: the dataset is empty, or the weights are none.
        """
        if not len(dataset):
            raise UserError(
                f"The split {dataset.split!r} of {dataset.folder} has no rows. Prepare a larger "
                "corpus."
            )
        self._order: Order
        if isinstance(dataset, MixedDataset):
            sizes = [len(one) for one in dataset.datasets]
            self._order = MixedOrder(sizes, weights or sizes, seed)
        else:
            self._order = ShuffledOrder(len(dataset), seed)
        self._dataset, self._batch_size, self._labels = dataset, batch_size, labels
        self._rows = _rows_of(batch_size, rows)
        self._num_threads = num_threads or min(cores(), MOST_THREADS)
        self._num_workers = num_workers

    def batches(self, examples_seen: int = 0) -> Generator[Batch]:
        """Batches without end, the first one beginning with example `examples_seen` of the run.

        Closing the iterator stops the reading ahead.
        """
        source = _BatchSource(
            dataset=self._dataset,
            order=self._order,
            first_example=examples_seen,
            stride=self._batch_size,
            rows=self._rows,
            labels=self._labels,
        )
        read_options = grain.ReadOptions(
            num_threads=self._num_threads, prefetch_buffer_size=READ_AHEAD_BATCHES
        )
        batches = grain.MapDataset.source(source).to_iter_dataset(read_options)
        if self._num_workers:
            batches = batches.mp_prefetch(
                grain.MultiprocessingOptions(num_workers=self._num_workers)
            )
        iterator = iter(batches)
        try:
            for arrays in iterator:
                yield Batch(**arrays)
        finally:
            iterator.close()  # Stops its threads and processes.


def validation_batches(
    dataset: RowSource,
    *,
    batch_size: int,
    max_rows: int,
    labels: bool = False,
    rows: np.ndarray | None = None,
) -> Iterator[tuple[Batch, np.ndarray]]:
    """The same rows in the same order at every call: all of them, or `max_rows` evenly spaced ones.

    Args:
      dataset: the rows.
      batch_size: rows of a global batch.
      max_rows: at most so many are read.
      labels: whether batches have the next-sentence labels of their rows.
      rows: [b] ints, which rows of every global batch are read here; None reads all.

    Yields:
      What is read here of each global batch, and weights [b] float32: 1, or 0 for rows that
      only fill up the last batch.
    """
    here = _rows_of(batch_size, rows)
    chosen = evenly_spaced(len(dataset), max_rows)
    num_rows = len(chosen)
    for first in range(0, num_rows, batch_size):
        places = first + here
        weights = (places < num_rows).astype(np.float32)
        index = chosen[np.minimum(places, num_rows - 1)]
        yield _read_batch(dataset, index, np.zeros_like(index), labels=labels), weights


@dataclasses.dataclass(frozen=True)
class _BatchSource:
    """Random access to batches; number i begins `i * stride` examples after the first example."""

    dataset: RowSource
    order: Order
    first_example: int
    stride: int
    rows: np.ndarray  # Of each batch.
    labels: bool

    def __len__(self) -> int:
        return (sys.maxsize - self.first_example) // self.stride - 1

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        first = self.first_example + position * self.stride
        index, epoch = self.order.locate(first + self.rows)
        batch = _read_batch(self.dataset, index, epoch, labels=self.labels)
        # grain's worker processes hand over dicts of arrays without copying them through a pipe.
        arrays = {"tokens": batch.tokens, "index": batch.index, "epoch": batch.epoch}
        return arrays if batch.labels is None else {**arrays, "labels": batch.labels}


def _read_batch(dataset: RowSource, index: np.ndarray, epoch: np.ndarray, *, labels: bool) -> Batch:
    tokens, row_labels = dataset.read_labelled(index)
    return Batch(
        tokens=tokens.astype(np.int32),
        index=index.astype(np.uint32),
        epoch=epoch.astype(np.uint32),
        labels=row_labels.astype(np.int32) if labels else None,
    )


def _rows_of(batch_size: int, rows: np.ndarray | None) -> np.ndarray:
    return np.arange(batch_size) if rows is None else np.asarray(rows, np.int64)
