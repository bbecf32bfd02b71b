"""What a run wrote about itself: `config.json` and `metrics.jsonl` of a workdir."""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from roberta_jax.errors import UserError
from roberta_jax.tasks.finetuned_folder import what_finetuning_wrote
from roberta_jax.train.workdir import CONFIG_FILE, METRICS_FILE

KINDS = ("train", "eval", "event")
NO_WORKDIR = "No workdir was given. Name at least one: --workdir=FOLDER."


@dataclasses.dataclass(slots=True, kw_only=True)
class RunMetrics:
    """One run, in the order in which it was written.

    Attributes:
      name: How the page calls the run; unique among the runs of a page.
      workdir: Where it was read.
      config: The resolved config as `config.json` has it, nested. Not turned into a
        `PretrainConfig`, so that runs of other versions can be drawn.
      train: Lines of kind "train".
      evaluation: Lines of kind "eval".
      events: Lines of kind "event".
      notes: What was left out while reading, for a person.
    """

    name: str
    workdir: epath.Path
    config: dict[str, Any]
    train: list[dict[str, Any]]
    evaluation: list[dict[str, Any]]
    events: list[dict[str, Any]]
    notes: list[str]

    def series(self, kind: str, key: str, over: str = "step") -> tuple[np.ndarray, np.ndarray]:
        """Places and values, both [N], of the lines of a kind with finite numbers for both.

        Args:
          kind: "train", "eval" or "event".
          key: What the values are called in the lines.
          over: What the places are called: "step", or "examples_seen".
        """
        lines = {"train": self.train, "eval": self.evaluation, "event": self.events}[kind]
        pairs = [
            (line[over], line[key])
            for line in lines
            if _is_finite(line.get(key)) and _is_finite(line.get(over))
        ]
        places, values = zip(*pairs, strict=True) if pairs else ((), ())
        return np.asarray(places, np.int64), np.asarray(values, np.float64)

    def last(self, kind: str, key: str) -> float:
        """The last finite value of the series, or NaN."""
        values = self.series(kind, key)[1]
        return float(values[-1]) if values.size else math.nan

    def unigram_entropy_nats(self) -> float:
        """The loss of guessing by word frequency alone, where the run recorded it, or NaN."""
        for event in self.events:
            if event.get("event") == "unigram_entropy" and _is_finite(event.get("nats")):
                return float(event["nats"])
        return math.nan

    def seconds(self) -> float:
        """Wall time of all the sessions of the run, or NaN.

        `seconds` counts from the start of a session or of the run: where it falls, a new session
        began.
        """
        lines = sorted(self.train + self.evaluation, key=lambda line: line["step"])
        values = [line["seconds"] for line in lines if _is_finite(line.get("seconds"))]
        if not values:
            return math.nan
        ends = [a for a, b in zip(values, values[1:], strict=False) if b < a]
        return float(sum(ends) + values[-1])


def read_metrics(workdir: str | os.PathLike[str]) -> RunMetrics:
    """Reads a workdir.

    A line that is not a metrics line, such as the last one of a killed run, is left out with a
    note.

    Raises:
      UserError: `workdir` is no workdir, or it has no metrics yet.
    """
    folder = epath.Path(workdir)
    if not folder.is_dir():
        raise UserError(
            f"The workdir {folder} does not exist. Name a folder that `pretrain` wrote."
        )
    config = _read_config(folder / CONFIG_FILE)
    try:
        text = (folder / METRICS_FILE).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        raise UserError(
            f"The workdir {folder} has no {METRICS_FILE} yet. Start the run, or wait for its first "
            "`train.log_every_steps` steps."
        ) from None

    lines: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    notes = []
    for number, raw in enumerate(text.splitlines(keepends=True), 1):
        line = _parse(raw)
        if line is not None:
            lines[line["kind"]].append(line)
        elif raw.strip() and raw.endswith("\n"):
            notes.append(f"Line {number} of {METRICS_FILE} is not a metrics line and was left out.")
        elif raw.strip():
            notes.append(
                f"The last line of {METRICS_FILE} is half-written, as after a kill: left out."
            )
    if not lines["train"] and not lines["eval"]:
        raise UserError(
            f"{folder / METRICS_FILE} has no training or evaluation line yet. Wait for the first "
            "`train.log_every_steps` steps of the run."
        )
    return RunMetrics(
        name=folder.resolve().name,
        workdir=folder,
        config=config,
        train=lines["train"],
        evaluation=lines["eval"],
        events=lines["event"],
        notes=notes,
    )


def read_runs(workdirs: Sequence[str | os.PathLike[str]]) -> list[RunMetrics]:
    """Reads several workdirs; runs of the same folder name are called by their path.

    Raises:
      UserError: There is none, one is named twice, or one cannot be read.
    """
    if not workdirs:
        raise UserError(NO_WORKDIR)
    runs = [read_metrics(workdir) for workdir in workdirs]
    places = [run.workdir.resolve() for run in runs]
    names = [run.name for run in runs]
    for run, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f"The workdir {run.workdir} was given twice. Name each run once.")
        if names.count(run.name) > 1:
            run.name = str(run.workdir)
    return runs


def _read_config(path: epath.Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        if what := what_finetuning_wrote(path.parent):
            raise UserError(
                f"{path.parent} is {what}, and cannot be drawn beside other runs or as a picture "
                "of the loss. Its page shows all its tasks: give `roberta-jax report` the "
                "--workdir of `roberta-jax finetune` alone."
            ) from None
        raise UserError(
            f"{path.parent} is not a workdir: it has no {CONFIG_FILE}. "
            "Name a folder that `pretrain` wrote."
        ) from None
    except ValueError as error:  # Not JSON, or not UTF-8.
        raise UserError(f"{path} is damaged: {error}.") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object.")
    return config


def _parse(raw: str) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except json.JSONDecodeError:
        return None
    if not isinstance(line, dict) or line.get("kind") not in KINDS:
        return None
    return line if _is_finite(line.get("step")) else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
