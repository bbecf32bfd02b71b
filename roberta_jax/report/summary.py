"""Runs as the rows of the page's tables: a label, and one text per run."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from roberta_jax.report import batches
from roberta_jax.report.metrics import RunMetrics

ABSENT = "–"  # Shown where a run has no such value.


@dataclasses.dataclass(slots=True, frozen=True)
class Row:
    """A label, and what it is for each run: text, not yet escaped for HTML."""

    label: str
    values: tuple[str, ...]

    def differs(self) -> bool:
        """Whether the runs disagree."""
        return len(set(self.values)) > 1


def result_rows(runs: Sequence[RunMetrics]) -> list[Row]:
    """What came out: length, losses, speed. A row that no run has a value for is left out."""
    return _rows(
        runs,
        {
            "steps": lambda run: count(_furthest(run, "step")),
            "rows seen": lambda run: count(_furthest(run, "examples_seen")),
            "tokens seen": lambda run: count(_tokens_seen(run)),
            "training loss, last (nats)": lambda run: number(run.last("train", "loss_nats")),
            "evaluation loss, last (nats)": lambda run: number(run.last("eval", "loss_nats")),
            "evaluation loss, best (nats)": _best_evaluation,
            "evaluation perplexity, last": lambda run: number(run.last("eval", "perplexity")),
            "masked accuracy, last": lambda run: percent(run.last("eval", "masked_accuracy")),
            "next-sentence accuracy, last": lambda run: percent(_next_sentence_accuracy(run)),
            "unigram entropy (nats)": lambda run: number(run.unigram_entropy_nats()),
            "tokens per second, median": lambda run: count(_median(run, "tokens_per_second")),
            "wall time": lambda run: duration(run.seconds()),
        },
    )


def setting_rows(runs: Sequence[RunMetrics]) -> list[Row]:
    """The few settings that say what a run is; fields that a config lacks are shown as absent."""
    encoder = "{encoder.num_layers} layers × {encoder.hidden_size}, {encoder.num_heads} heads"
    rows = [
        Row(label, tuple(text(run.config) for run in runs))
        for label, text in {
            "encoder": _template(encoder),
            "vocabulary": _template("{encoder.vocab_size}"),
            "computed in": _template("{encoder.compute_dtype}"),
            "length": _length,
            "batch": _batches,
            "optimizer": _template("{optimizer.kind}"),
            "learning rate": _learning_rates,
            "masking": _template("{masking.kind}, {masking.rate}"),
            "seed": _template("{seed}"),
        }.items()
    ]
    return [row for row in rows if any(re.search(r"\w", value) for value in row.values)]


def config_rows(runs: Sequence[RunMetrics]) -> list[Row]:
    """Every config field as a row (`encoder.num_layers`), in the order of the first run with it."""
    configs = [flatten(run.config) for run in runs]
    names = dict.fromkeys(name for fields in configs for name in fields)
    return [
        Row(name, tuple(_text(fields[name]) if name in fields else ABSENT for fields in configs))
        for name in names
    ]


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"encoder": {"num_layers": 4}} → {"encoder.num_layers": 4}; phases are numbered from 0."""
    fields: dict[str, Any] = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            fields |= flatten(value, f"{path}.")
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            for number, one in enumerate(value):
                fields |= flatten(one, f"{path}[{number}].")
        else:
            fields[path] = value
    return fields


def count(value: float) -> str:
    """12345 → "12,345"; from ten million on "12.3 million" and "1.23 billion"."""
    if math.isnan(value):
        return ABSENT
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value >= size and value >= 1e7:
            return f"{value / size:.3g} {word}"
    return f"{value:,.0f}"


def number(value: float) -> str:
    """Four significant digits."""
    return ABSENT if math.isnan(value) else f"{value:,.0f}" if value >= 1e4 else f"{value:.4g}"


def percent(share: float) -> str:
    """0.4321 → "43.2%"."""
    return ABSENT if math.isnan(share) else f"{100 * share:.1f}%"


def duration(seconds: float) -> str:
    """3725 → "1 h 02 min"; 75 → "1 min 15 s"."""
    if math.isnan(seconds):
        return ABSENT
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.3g} s"


def _rows(runs: Sequence[RunMetrics], columns: dict[str, Callable[[RunMetrics], str]]) -> list[Row]:
    rows = [Row(label, tuple(text(run) for run in runs)) for label, text in columns.items()]
    return [row for row in rows if set(row.values) != {ABSENT}]


def _furthest(run: RunMetrics, key: str) -> float:
    return max((run.last(kind, key) for kind in ("train", "eval")), key=_nan_first)


def _nan_first(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _tokens_seen(run: RunMetrics) -> float:
    return batches.tokens_seen(run.config, _furthest(run, "examples_seen"))


def _next_sentence_accuracy(run: RunMetrics) -> float:
    evaluated = run.last("eval", "next_sentence_accuracy")
    return run.last("train", "next_sentence_accuracy") if math.isnan(evaluated) else evaluated


def _best_evaluation(run: RunMetrics) -> str:
    steps, losses = run.series("eval", "loss_nats")
    if not losses.size:
        return ABSENT
    best = int(np.argmin(losses))
    return f"{number(losses[best])} at step {steps[best]:,}"


def _median(run: RunMetrics, key: str) -> float:
    values = run.series("train", key)[1]
    return float(np.median(values)) if values.size else math.nan


def _template(text: str) -> Callable[[dict[str, Any]], str]:
    """What fills the fields of a config into the text."""

    def fill(config: dict[str, Any]) -> str:
        fields = flatten(config)
        return re.sub(r"\{([\w.]+)\}", lambda match: _plain(fields.get(match[1])), text)

    return fill


def _length(config: dict[str, Any]) -> str:
    parts = [_plain(phase.get("duration")) for phase in batches.phases(config)]
    return batches.total_duration(config) or " + ".join(parts) or ABSENT


def _batches(config: dict[str, Any]) -> str:
    return ", then ".join(
        f"{_plain(one.num_rows)} rows × {_plain(one.row_tokens)} tokens"
        + (f" for {one.duration}" if one.duration else "")
        for one in batches.batches(config)
    )


def _learning_rates(config: dict[str, Any]) -> str:
    """Every schedule of the run: that of its sections, unless the first phase begins its own."""
    optimizer, schedule = (batches.section(config, name) for name in ("optimizer", "schedule"))
    # Older versions had a number of steps, and one kind of schedule.
    old = f"{_plain(optimizer['warmup_steps'])} steps" if "warmup_steps" in optimizer else None
    whole = (optimizer.get("peak_learning_rate"), schedule.get("warmup", old))
    phases = batches.phases(config)
    own = [
        (phase.get("peak_learning_rate"), phase.get("warmup"))
        for phase in phases
        if phase.get("peak_learning_rate")
    ]
    all_own = bool(phases) and bool(phases[0].get("peak_learning_rate"))
    schedules = own if all_own else [whole, *own]
    rates = (f"{_plain(peak)}, warm-up {_plain(warmup)}" for peak, warmup in schedules)
    kind = schedule.get("kind")
    return ", then ".join(rates) + (f", {kind}" if kind else "")


def _plain(value: Any) -> str:
    if value is None:
        return ABSENT
    return f"{value:,}" if type(value) is int else str(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
