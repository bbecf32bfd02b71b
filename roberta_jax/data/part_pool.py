"""All parts of a corpus, made one after the other or by several processes at once.

A part that is finished stays when the work stops, whatever the reason.
"""

import multiprocessing
import pathlib
import shutil
from collections.abc import Sequence
from concurrent import futures
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from roberta_jax.data.bad_text import ReadCounts
from roberta_jax.data.encoding import MOST_PROCESSES, processes_for
from roberta_jax.data.output_folder import UNFINISHED_NAME
from roberta_jax.data.part_writer import RESULT_NAME, PartResult, write_part
from roberta_jax.data.parts import Part
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.processes import cores, leave_with_parent, without_interrupts
from roberta_jax.data.progress import Progress
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.errors import MachineError

_COLUMNS = 4  # Of the table of progress: stored bytes, text bytes, documents, tokens.
_LOOK_SECONDS = 0.2


class _Stopped(Exception):
    """The first process has given up; what this one does is of no use any more."""


_job: dict[str, Any] = {}  # Of a process of the pool: what `_start_process` was given.


def part_folder(folder: pathlib.Path, part: Part) -> pathlib.Path:
    """Where the shards of a part are until all are finished."""
    return folder / f"part-{part.number:05d}"


def finished_parts(
    folder: pathlib.Path, parts: Sequence[Part], keys: Sequence[str]
) -> dict[int, PartResult]:
    """The parts that an earlier run finished, by number; folders of other parts are removed."""
    finished = {
        part.number: result
        for part, key in zip(parts, keys, strict=True)
        if (result := PartResult.load(part_folder(folder, part), key))
    }
    kept = {part_folder(folder, part) for part in parts if part.number in finished}
    kept.add(folder / UNFINISHED_NAME)
    for path in folder.iterdir():
        if path not in kept:
            # What says that a part is whole goes first.
            (path / RESULT_NAME).unlink(missing_ok=True)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return finished


def make_parts(
    parts: Sequence[Part],
    keys: Sequence[str],
    folder: pathlib.Path,
    *,
    tokenizer: Tokenizer,
    settings: PrepareSettings,
    num_processes: int = 0,
) -> list[PartResult]:
    """Writes the shards of all `parts` into folders below `folder`.

    Args:
      parts: those of `plan_parts`; the ones that are there already are not made again.
      keys: of the parts.
      folder: of the dataset that is being made.
      tokenizer: makes the ids.
      settings: how the rows are made.
      num_processes: that work at once; 0: one per core, or none beside this one where the text is
        short. It changes the speed and never the rows.

    Raises:
      UserError: text cannot be read.
      MachineError: the disk refuses the shards, or a process was killed.
    """
    results = finished_parts(folder, parts, keys)
    pending = [(part, keys[part.number]) for part in parts if part.number not in results]
    stored_bytes = sum(part.bytes for part, _ in pending)
    text_bytes = sum(span.file.text_bytes for part, _ in pending for span in part.spans)
    if not num_processes:
        num_processes = cores() if processes_for(text_bytes) else 1
    num_workers = min(num_processes, len(pending))
    with Progress("preparing", stored_bytes) as progress:
        if num_workers > 1:
            made = _make_at_once(
                pending, folder, (tokenizer, settings), num_workers, progress=progress
            )
        else:
            # This process reads and packs while the others encode.
            encoders = min(num_processes, MOST_PROCESSES) if num_processes > 1 else 0
            made = _make_in_turn(
                pending, folder, (tokenizer, settings), encoders, progress=progress
            )
    return [results.get(part.number) or made[part.number] for part in parts]


def _make_in_turn(
    pending: Sequence[tuple[Part, str]],
    folder: pathlib.Path,
    how: tuple[Tokenizer, PrepareSettings],
    num_encoders: int,
    *,
    progress: Progress,
) -> dict[int, PartResult]:
    done = [0] * _COLUMNS

    def report(read: ReadCounts, documents: int, tokens: int) -> None:
        _show(
            progress,
            [
                before + now
                for before, now in zip(
                    done, (read.stored_bytes, read.text_bytes, documents, tokens), strict=True
                )
            ],
        )
        latest[:] = [read.stored_bytes, read.text_bytes, documents, tokens]

    results = {}
    for part, key in pending:
        latest = [0] * _COLUMNS
        results[part.number] = write_part(
            part,
            part_folder(folder, part),
            key=key,
            tokenizer=how[0],
            settings=how[1],
            report=report,
            num_processes=num_encoders,
        )
        done = [before + now for before, now in zip(done, latest, strict=True)]
    return results


def _make_at_once(
    pending: Sequence[tuple[Part, str]],
    folder: pathlib.Path,
    how: tuple[Tokenizer, PrepareSettings],
    num_workers: int,
    *,
    progress: Progress,
) -> dict[int, PartResult]:
    context = multiprocessing.get_context("spawn")
    table = context.RawArray("q", num_workers * _COLUMNS)
    stop = context.RawValue("b", 0)
    number = context.Value("i", 0)
    executor = futures.ProcessPoolExecutor(
        num_workers, context, initializer=_start_process, initargs=(*how, table, stop, number)
    )
    try:
        with without_interrupts():  # Inherited by the processes that this starts.
            work = {
                executor.submit(_make, part, part_folder(folder, part), key): part.number
                for part, key in pending
            }
        waiting = set(work)
        while waiting:
            done, waiting = futures.wait(
                waiting, timeout=_LOOK_SECONDS, return_when=futures.FIRST_COMPLETED
            )
            for future in done:
                future.result()  # Raises what the process raised.
            _show(progress, [sum(table[column::_COLUMNS]) for column in range(_COLUMNS)])
        return {work[future]: future.result() for future in work}
    except futures.process.BrokenProcessPool as error:
        raise MachineError(
            "A process that prepares text was killed, probably because memory ran out. Free some "
            "memory, or give --num_processes, and start again: finished parts are kept."
        ) from error
    finally:
        stop.value = 1
        executor.shutdown(wait=True, cancel_futures=True)


def _show(progress: Progress, totals: Sequence[int]) -> None:
    stored, text, documents, tokens = totals
    progress.update(stored, text, f"{documents:,} documents  {tokens / 1e6:.1f}M tokens")


def _start_process(
    tokenizer: Tokenizer,
    settings: PrepareSettings,
    table: Any,
    stop: Any,
    number: "Synchronized[int]",
) -> None:
    leave_with_parent()
    with number.get_lock():
        column = number.value
        number.value += 1
    _job.update(tokenizer=tokenizer, settings=settings, table=table, stop=stop, first=column)


def _make(part: Part, folder: pathlib.Path, key: str) -> PartResult:
    """In a process of the pool: makes a part and tells how far it is."""
    table, stop, first = _job["table"], _job["stop"], _job["first"] * _COLUMNS
    before = list(table[first : first + _COLUMNS])

    def report(read: ReadCounts, documents: int, tokens: int) -> None:
        if stop.value:
            raise _Stopped
        now = (read.stored_bytes, read.text_bytes, documents, tokens)
        table[first : first + _COLUMNS] = [a + b for a, b in zip(before, now, strict=True)]

    return write_part(
        part,
        folder,
        key=key,
        tokenizer=_job["tokenizer"],
        settings=_job["settings"],
        report=report,
    )
