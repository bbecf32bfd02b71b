"""A stream of documents → the same stream as token ids, encoded by several processes."""

import collections
import multiprocessing
from collections.abc import Iterator
from concurrent import futures

import numpy as np

from roberta_jax.data.corpus import Document
from roberta_jax.data.processes import cores, leave_with_parent, without_interrupts
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import MachineError

# Enough to keep a process busy for a tenth of a second.
BATCH_CHARACTERS = 1 << 20
# One process reads and packs as fast as about four encode, and each takes up to 250 MB.
MOST_PROCESSES = 4

SplitDocument = tuple[str, Document]  # Name of the split, document.

_tokenizer: Tokenizer  # Of an encoding process.


def encode_documents(
    tokenizer: Tokenizer,
    documents: Iterator[SplitDocument],
    *,
    num_processes: int,
    blank_between: bool = False,
) -> Iterator[tuple[str, bool, np.ndarray]]:
    """Encodes documents, or pieces of them.

    Args:
      tokenizer: makes the ids.
      documents: read no further ahead than the processes can be kept busy with.
      num_processes: that encode beside this one; 0 encodes here. It changes the speed and never
        the ids.
      blank_between: as for `Tokenizer.encode_sentences`.

    Yields:
      Split, whether a document begins, and ids uint32 [n] with `</s>` after every sentence, in
      the order of `documents`.
    """
    batches = _batches(documents)
    if num_processes == 0:
        for batch in batches:
            groups = [document.sentences for _, document in batch]
            yield from _labelled(
                batch, tokenizer.encode_sentences(groups, blank_between=blank_between)
            )
        return
    with futures.ProcessPoolExecutor(
        num_processes,
        multiprocessing.get_context("spawn"),
        initializer=_start_process,
        initargs=(tokenizer,),
    ) as executor:
        waiting: collections.deque[tuple[list[SplitDocument], futures.Future[list[np.ndarray]]]] = (
            collections.deque()
        )
        try:
            for batch in batches:
                sentences = [document.sentences for _, document in batch]
                with without_interrupts():  # Inherited by the processes that this starts.
                    encoding = executor.submit(_encode, sentences, blank_between)
                waiting.append((batch, encoding))
                if len(waiting) > 2 * num_processes:
                    done, encoded = waiting.popleft()
                    yield from _labelled(done, encoded.result())
            while waiting:
                done, encoded = waiting.popleft()
                yield from _labelled(done, encoded.result())
        except futures.process.BrokenProcessPool as error:
            raise MachineError(
                "A process that encodes text was killed, probably because memory ran out. Free "
                "some memory and start again."
            ) from error
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def processes_for(text_bytes: int) -> int:
    """How many processes pay off for so many bytes of input; starting one takes about a second."""
    return min(cores(), MOST_PROCESSES) if text_bytes > 8 * BATCH_CHARACTERS else 0


def _batches(documents: Iterator[SplitDocument]) -> Iterator[list[SplitDocument]]:
    batch: list[SplitDocument] = []
    characters = 0
    for split, document in documents:
        batch.append((split, document))
        characters += sum(map(len, document.sentences))
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _labelled(
    batch: list[SplitDocument], groups: list[np.ndarray]
) -> Iterator[tuple[str, bool, np.ndarray]]:
    for (split, document), ids in zip(batch, groups, strict=True):
        yield split, document.is_start, ids


def _start_process(tokenizer: Tokenizer) -> None:
    global _tokenizer
    _tokenizer = tokenizer
    leave_with_parent()


def _encode(sentence_groups: list[list[str]], blank_between: bool) -> list[np.ndarray]:
    return _tokenizer.encode_sentences(sentence_groups, blank_between=blank_between)
