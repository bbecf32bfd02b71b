"""Work on the parts of a corpus on this machine: one after the other, or by several processes."""

import multiprocessing
from collections.abc import Sequence
from concurrent import futures
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from roberta_jax.data.bad_text import ReadCounts
from roberta_jax.data.encoding import MOST_PROCESSES, processes_for
from roberta_jax.data.part_work import PartWork
from roberta_jax.data.parts import Part
from roberta_jax.data.processes import cores, leave_with_parent, without_interrupts
from roberta_jax.data.progress import Progress
from roberta_jax.errors import MachineError

_COLUMNS = 4  # Of the table of progress: stored bytes, text bytes, documents, tokens.
_LOOK_SECONDS = 0.2


class _Stopped(Exception):
    """The first process has given up; what this one does is of no use any more."""


_job: dict[str, Any] = {}  # Of a process of the pool: what `_start_process` was given.


def work_here(work: PartWork, parts: Sequence[Part], num_processes: int = 0) -> None:
    """Does `work` on all `parts`.

    Args:
      work: what is done.
      parts: some of `plan_parts`.
      num_processes: that work at once; 0: one per core, or none beside this one where the text is
        short.

    Raises:
      MachineError: a process was killed; and what the work raises. Parts that are done stay done.
    """
    text_bytes = sum(span.file.text_bytes for part in parts for span in part.spans)
    if not num_processes:
        num_processes = cores() if processes_for(text_bytes) else 1
    num_workers = min(num_processes, len(parts))
    with Progress(work.title, sum(part.bytes for part in parts)) as progress:
        if num_workers > 1:
            _work_at_once(work, parts, num_workers, progress=progress)
        else:
            # This process reads and packs while the others encode.
            encoders = min(num_processes, MOST_PROCESSES) if num_processes > 1 else 0
            _work_in_turn(work, parts, encoders, progress=progress)


def _work_in_turn(
    work: PartWork, parts: Sequence[Part], num_processes: int, *, progress: Progress
) -> None:
    done = [0] * _COLUMNS

    def report(read: ReadCounts, documents: int, tokens: int) -> None:
        latest[:] = [read.stored_bytes, read.text_bytes, documents, tokens]
        _show(progress, [before + now for before, now in zip(done, latest, strict=True)])

    for part in parts:
        latest = [0] * _COLUMNS
        work(part, report, num_processes)
        done = [before + now for before, now in zip(done, latest, strict=True)]


def _work_at_once(
    work: PartWork, parts: Sequence[Part], num_workers: int, *, progress: Progress
) -> None:
    context = multiprocessing.get_context("spawn")
    table = context.RawArray("q", num_workers * _COLUMNS)
    stop = context.RawValue("b", 0)
    number = context.Value("i", 0)
    executor = futures.ProcessPoolExecutor(
        num_workers, context, initializer=_start_process, initargs=(work, table, stop, number)
    )
    try:
        with without_interrupts():  # Inherited by the processes that this starts.
            waiting = {executor.submit(_work_on, part) for part in parts}
        while waiting:
            done, waiting = futures.wait(
                waiting, timeout=_LOOK_SECONDS, return_when=futures.FIRST_COMPLETED
            )
            for future in done:
                future.result()  # Raises what the process raised.
            _show(progress, [sum(table[column::_COLUMNS]) for column in range(_COLUMNS)])
    except futures.process.BrokenProcessPool as error:
        raise MachineError(
            "A process that prepares text could not start or was killed, probably because memory "
            "ran out. Free some memory, or give --num_processes, and start again: finished parts "
            "are kept."
        ) from error
    finally:
        stop.value = 1
        executor.shutdown(wait=True, cancel_futures=True)


def _show(progress: Progress, totals: Sequence[int]) -> None:
    stored, text, documents, tokens = totals
    counted = f"  {tokens / 1e6:.1f}M tokens" if tokens else ""
    progress.update(stored, text, f"{documents:,} documents{counted}")


def _start_process(work: PartWork, table: Any, stop: Any, number: "Synchronized[int]") -> None:
    leave_with_parent()
    with number.get_lock():
        column = number.value
        number.value += 1
    _job.update(work=work, table=table, stop=stop, first=column)


def _work_on(part: Part) -> None:
    """In a process of the pool: works on a part and tells how far it is."""
    table, stop, first = _job["table"], _job["stop"], _job["first"] * _COLUMNS
    before = list(table[first : first + _COLUMNS])

    def report(read: ReadCounts, documents: int, tokens: int) -> None:
        if stop.value:
            raise _Stopped
        now = (read.stored_bytes, read.text_bytes, documents, tokens)
        table[first : first + _COLUMNS] = [a + b for a, b in zip(before, now, strict=True)]

    _job["work"](part, report)
