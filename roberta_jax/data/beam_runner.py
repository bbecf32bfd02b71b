"""Work on the parts of a corpus as an Apache Beam pipeline: here, on Dataflow, Flink or Spark.

A part is an element, and the work on it the transform that a local run does; the bytes are the
same. What the workers make lies on a disk that all of them see.
"""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Sequence

from roberta_jax.data.bad_text import ReadCounts
from roberta_jax.data.inputs import on_this_machine
from roberta_jax.data.part_work import PartWork
from roberta_jax.data.parts import Part
from roberta_jax.errors import MachineError, UserError

# Beam's local runner that needs no other program; one process per core.
LOCAL_OPTIONS = (
    "--runner=FnApiRunner",
    "--direct_running_mode=multi_processing",
    "--direct_num_workers=0",
)
_ERRORS_NAME = "errors"


def work_on_beam(
    work: PartWork, parts: Sequence[Part], folder: pathlib.Path, options: Sequence[str]
) -> None:
    """Does `work` on all `parts` in a pipeline, and waits for its end.

    Args:
      work: what is done.
      parts: some of `plan_parts`.
      folder: on a disk that all workers see under this path.
      options: of the pipeline, as Beam's own command line has them; none runs it here.

    Raises:
      UserError: Beam is not installed, or an option is none; and what the work raises.
      MachineError: likewise.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError(
            "--runner=beam needs Apache Beam, which is not installed. Make an environment of its "
            "own for it, because it needs older versions of other packages: "
            "pip install 'roberta-jax[beam]'."
        ) from error
    folder = folder.absolute()
    errors = folder / _ERRORS_NAME
    shutil.rmtree(errors, ignore_errors=True)
    errors.mkdir(parents=True)
    try:
        begun = beam.Pipeline(options=PipelineOptions(list(options or LOCAL_OPTIONS)))
    except (ValueError, ImportError) as error:
        raise UserError(f"--beam_options={' '.join(options)!r}: {error}") from error
    with begun as pipeline:
        # Without the shuffle, a runner may join Create and Map, and one worker would do it all.
        _ = (
            pipeline
            | "parts" >> beam.Create([_absolute(part) for part in parts])
            | "spread" >> beam.Reshuffle()
            | work.title >> beam.Map(_Task(work, errors))
        )
    for path in sorted(errors.iterdir()):
        said = json.loads(path.read_text(encoding="utf-8"))
        raise (UserError if said["kind"] == UserError.__name__ else MachineError)(said["message"])
    errors.rmdir()


@dataclasses.dataclass(frozen=True, slots=True)
class _Task:
    """The work on a part in a process of Beam.

    What the user has to know of is written down instead of raised: Beam would try again, and hide
    it in a traceback of its own.
    """

    work: PartWork
    errors: pathlib.Path

    def __call__(self, part: Part) -> None:
        try:
            self.work(part, _report)
        except (UserError, MachineError) as error:
            said = {"kind": type(error).__name__, "message": str(error)}
            partial = self.errors / f".{part.number}-{os.getpid()}"
            partial.write_text(json.dumps(said), encoding="utf-8")
            partial.rename(self.errors / f"part-{part.number:05d}.json")


def _report(read: ReadCounts, documents: int, tokens: int) -> None:
    """Beam has its own display."""


def _absolute(part: Part) -> Part:
    """The same part for processes with another current folder."""
    spans = tuple(
        dataclasses.replace(
            span, file=dataclasses.replace(span.file, path=on_this_machine(span.file.path))
        )
        for span in part.spans
    )
    return dataclasses.replace(part, spans=spans)
