"""Work on the parts of a corpus as an Apache Beam pipeline: here, on Dataflow, Flink or Spark.

A part is an element, and the work on it the transform that a local run does; the bytes are the
same. What the workers make lies on a disk that all of them see.
"""

import dataclasses
import json
import pathlib
import shutil
import uuid
from collections.abc import Sequence
from typing import Any

from roberta_jax.data.bad_text import ReadCounts
from roberta_jax.data.inputs import on_this_machine
from roberta_jax.data.part_work import PartWork
from roberta_jax.data.parts import Part
from roberta_jax.errors import DISK_ERRORS, MachineError, UserError

# Beam's local runner that needs no other program; one process per core.
LOCAL_OPTIONS = (
    "--runner=FnApiRunner",
    "--direct_running_mode=multi_processing",
    "--direct_num_workers=0",
)
_ERRORS_NAME, _PART = "errors", "part-"


def work_on_beam(
    work: PartWork, parts: Sequence[Part], folder: pathlib.Path, options: Sequence[str]
) -> None:
    """Does `work` on all `parts` in a pipeline, and waits for its end.

    Args:
      work: what is done.
      parts: some of `plan_parts`.
      folder: on a disk that all workers see under this path.
      options: of the pipeline, as Beam's own command line has them; without a runner, it runs here.

    Raises:
      UserError: Beam is not installed, or an option is none; and what the work raises, when the
        others are done.
      MachineError: likewise.
    """
    try:
        import apache_beam as beam
    except ImportError as error:
        raise UserError(
            f"--runner=beam needs Apache Beam, which cannot be imported ({error}). Make an "
            "environment of its own for it, because it needs older versions of other packages: "
            "pip install 'roberta-jax[beam]'."
        ) from error
    folder = folder.absolute()
    errors = folder / _ERRORS_NAME
    shutil.rmtree(errors, ignore_errors=True)
    errors.mkdir(parents=True)
    with beam.Pipeline(options=_parsed(options)) as pipeline:
        # Without the shuffle, a runner may join Create and Map, and one worker would do it all.
        _ = (
            pipeline
            | "parts" >> beam.Create([_absolute(part) for part in parts])
            | "spread" >> beam.Reshuffle()
            | work.title >> beam.Map(_Task(work, errors))
        )
    for path in sorted(errors.glob(f"{_PART}*")):
        said = json.loads(path.read_text(encoding="utf-8"))
        raise (UserError if said["is_users"] else MachineError)(said["message"])
    shutil.rmtree(errors)


def _parsed(options: Sequence[str]) -> Any:
    """Beam's form of the options; without a runner, they complete `LOCAL_OPTIONS`.

    Raises UserError when Beam cannot use one, or would leave it out with a mere warning.
    """
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners import create_runner

    refused = f"--beam_options={' '.join(options)!r} cannot be used"
    try:
        parsed = PipelineOptions(list(options))
        if not parsed.get_all_options()["runner"]:
            parsed = PipelineOptions([*LOCAL_OPTIONS, *options])
        known = parsed.get_all_options()
        unknown = set(parsed.get_all_options(retain_unknown_options=True)) - set(known)
        create_runner(known["runner"])
    except (ValueError, ImportError) as error:
        raise UserError(f"{refused}: {error}") from error
    except SystemExit as error:  # Of its parser, which has told why.
        raise UserError(f"{refused}: Beam's reason stands above.") from error
    if unknown or not all(word.startswith("--") for word in options[:1]):
        raise UserError(f"{refused}: Beam has no {', '.join(sorted(unknown)) or options[0]}.")
    return parsed


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
            self._note(part, str(error), isinstance(error, UserError))
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            what = f"{error.strerror} ({error.filename or self.errors.parent})"
            self._note(part, f"A worker cannot write: {what}. Free some space.", False)

    def _note(self, part: Part, message: str, is_users: bool) -> None:
        partial = self.errors / f"partial-{uuid.uuid4().hex}"
        said = {"message": message, "is_users": is_users}
        partial.write_text(json.dumps(said), encoding="utf-8")
        partial.rename(self.errors / f"{_PART}{part.number:05d}.json")


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
