"""What is done with every part of a corpus, so that any process or machine can do it."""

import dataclasses
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from roberta_jax.data.duplicates import duplicates_of
from roberta_jax.data.output_folder import UNFINISHED_NAME, folder_at_once
from roberta_jax.data.part_writer import RESULT_NAME, PartResult, Report, write_part
from roberta_jax.data.parts import Part
from roberta_jax.data.prepare_settings import PrepareSettings
from roberta_jax.data.tokenizer import Tokenizer


class PartWork(Protocol):
    """Work on one part after the other, or on all at once; it can be pickled.

    What it makes appears on the disk at once and whole. Doing it twice changes nothing.
    """

    @property
    def title(self) -> str:
        """What is done, for the display of progress."""

    def __call__(self, part: Part, report: Report, num_processes: int = 0) -> None:
        """Does it with a part.

        `report` is called now and then, and may raise to stop the work; `num_processes` may help
        this one.
        """


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WriteParts:
    """Writes the shards of a part into its `part_folder`.

    Attributes:
      folder: of the work on the dataset.
      keys: of the parts by number.
      tokenizer: makes the ids.
      settings: how the rows are made.
      duplicates: what `find_duplicates` made, or None.
    """

    folder: pathlib.Path
    keys: Mapping[int, str]
    tokenizer: Tokenizer
    settings: PrepareSettings
    duplicates: pathlib.Path | None = None

    title = "preparing"

    def __call__(self, part: Part, report: Report, num_processes: int = 0) -> None:
        """Writes a part."""
        duplicates = duplicates_of(self.duplicates, part) if self.duplicates else None
        with folder_at_once(part_folder(self.folder, part)) as folder:
            write_part(
                part,
                folder,
                key=self.keys[part.number],
                tokenizer=self.tokenizer,
                settings=self.settings,
                report=report,
                duplicates=duplicates,
                num_processes=num_processes,
            )


def part_folder(folder: pathlib.Path, part: Part) -> pathlib.Path:
    """Where the shards of a part are until all are finished."""
    return folder / f"part-{part.number:05d}"


def finished_parts(
    folder: pathlib.Path, parts: Sequence[Part], keys: Mapping[int, str]
) -> dict[int, PartResult]:
    """The parts that are finished, by number."""
    return {
        part.number: result
        for part in parts
        if (result := PartResult.load(part_folder(folder, part), keys[part.number]))
    }


def remove_all_but(folder: pathlib.Path, kept: Iterable[str]) -> None:
    """Removes what is in a folder of unfinished work but for these names.

    That is parts of another corpus or other settings, and what a killed run left.
    """
    for path in folder.iterdir():
        if path.name in {*kept, UNFINISHED_NAME}:
            continue
        if path.is_dir():
            # What says that a part is whole goes first. A worker that outlived its run may write
            # into a partial folder still: it stays, then.
            (path / RESULT_NAME).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
