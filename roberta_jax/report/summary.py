"""Runs as the rows of the page's tables: a label, and one text per run."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

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
            "unigram entropy (nats)": lambda run: number(run.unigram_entropy_nats()),
            "tokens per second, median": lambda run: count(_median(run, "tokens_per_second")),
            "wall time": lambda run: duration(run.seconds()),
        },
    )


def setting_rows(runs: Sequence[RunMetrics]) -> list[Row]:
    """The few settings that say what a run is; fields that a config lacks are shown as absent."""
    templates = {
        "encoder": "{encoder.num_layers} layers × {encoder.hidden_size}, {encoder.num_heads} heads",
        "vocabulary": "{encoder.vocab_size}",
        "computed in": "{encoder.compute_dtype}",
        "batch": "{train.batch_size} rows × {data.sequence_length} tokens",
        "learning rate": "{optimizer.peak_learning_rate}, warm-up {optimizer.warmup_steps} steps",
        "masking": "{masking.kind}, {masking.rate}",
        "seed": "{seed}",
    }
    rows = [
        Row(label, tuple(_fill(text, run) for run in runs)) for label, text in templates.items()
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
    """{"encoder": {"num_layers": 4}} → {"encoder.num_layers": 4}."""
    fields: dict[str, Any] = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        fields.update(flatten(value, f"{path}.") if isinstance(value, dict) else {path: value})
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
    length = flatten(run.config).get("data.sequence_length", math.nan)
    return _furthest(run, "examples_seen") * length


def _best_evaluation(run: RunMetrics) -> str:
    steps, losses = run.series("eval", "loss_nats")
    if not losses.size:
        return ABSENT
    best = int(np.argmin(losses))
    return f"{number(losses[best])} at step {steps[best]:,}"


def _median(run: RunMetrics, key: str) -> float:
    values = run.series("train", key)[1]
    return float(np.median(values)) if values.size else math.nan


def _fill(template: str, run: RunMetrics) -> str:
    fields = flatten(run.config)

    def value_of(match: re.Match[str]) -> str:
        value = fields.get(match[1], ABSENT)
        return f"{value:,}" if type(value) is int else str(value)

    return re.sub(r"\{([\w.]+)\}", value_of, template)


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
