"""The figures: one quantity over the steps or the rows seen, all runs in one picture.

A figure is made without pyplot, so nothing is global, no window is
opened, and drawing from a training process leaves no trace.
"""

import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from roberta_jax.page.stylesheet import COLOURS
from roberta_jax.report.batches import horizontal_axis
from roberta_jax.report.metrics import RunMetrics

INK = "#3f3f46"  # Text and axes of an image file; on the page they take the text's colour.
MAX_POINTS = 1000  # Of one curve; a longer one is drawn as means of neighbours.
AXIS_LABELS = {"step": "step", "examples_seen": "rows seen"}
PROBE_PREFIX = "probe_"  # Of the names of scores in the record.
RUNS_BESIDE_CURVES = 3  # More runs than this have their legend below the axes.

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.size": 9.5,
    "grid.alpha": 0.2,
    "grid.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "path",  # The same look everywhere, whatever fonts a reader has.
    "svg.hashsalt": "roberta_jax",  # The same bytes for the same numbers.
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclasses.dataclass(slots=True, frozen=True)
class Quantity:
    """What one figure shows.

    Attributes:
      key: Its name in the metrics lines.
      title: What it is, with its unit.
      log: Whether values that span a decade get a logarithmic axis.
      share: Whether it lies in [0, 1] and is shown in percent.
      from_zero: Whether the axis begins at zero.
    """

    key: str
    title: str
    log: bool = False
    share: bool = False
    from_zero: bool = False


LOSS = Quantity("loss_nats", "Masked-LM loss (nats per masked token)")
QUANTITIES = (
    Quantity("perplexity", "Perplexity of masked tokens", log=True),
    Quantity("masked_accuracy", "Masked accuracy", share=True, from_zero=True),
    Quantity("next_sentence_accuracy", "Next-sentence accuracy", share=True, from_zero=True),
    Quantity("learning_rate", "Learning rate", from_zero=True),
    Quantity("gradient_norm", "Gradient norm", log=True),
    Quantity("tokens_per_second", "Tokens per second", from_zero=True),
)


def loss_figure(
    runs: Sequence[RunMetrics],
    *,
    width_inches: float = 9.0,
    reference_nats: Mapping[str, float] | None = None,
) -> Figure:
    """Training and evaluation loss, with a legend.

    Args:
      runs: At least one.
      width_inches: Width of the figure; the height follows.
      reference_nats: Horizontal lines, label → loss, beside the unigram entropies that the runs
        recorded.
    """
    references = dict(reference_nats or {})
    entropies = {round(run.unigram_entropy_nats(), 2): run.name for run in runs}
    for entropy, name in entropies.items():
        if np.isfinite(entropy):
            owner = f", {name}" if len(entropies) > 1 else ""
            references[f"unigram entropy{owner}: {entropy:.2f}"] = entropy
    return quantity_figure(
        runs, LOSS, width_inches=width_inches, legend=True, references=references
    )


def quantity_figure(
    runs: Sequence[RunMetrics],
    quantity: Quantity,
    *,
    width_inches: float = 5.4,
    legend: bool = False,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """One quantity: a thin line for training, a dotted-through one for evaluation.

    A single run has two colours, for training and evaluation; several runs have one colour each.
    The horizontal axis depends on the runs alone, so that all their figures have the same.
    """
    over = horizontal_axis(runs)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width_inches, 1.6 + 0.3 * width_inches), layout="constrained")
        axes = figure.add_subplot()
        drawn = []
        for index, run in enumerate(runs):
            drawn += _draw_run(axes, run, quantity, over, index=index, alone=len(runs) == 1)
        for label, value in (references or {}).items():
            axes.axhline(value, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=label)
        _finish_axes(axes, quantity, over, np.concatenate(drawn) if drawn else np.empty(0))
        if legend and drawn:
            _add_legend(figure, axes, num_runs=len(runs))
        return figure


def probe_quantities(runs: Sequence[RunMetrics]) -> list[Quantity]:
    """The scores of the tasks that were looked at during the runs, see `config.probe`."""
    names = {
        (key, (run.config.get("probe") or {}).get("task", ""))
        for run in runs
        for line in run.evaluation
        for key in line
        if key.startswith(PROBE_PREFIX)
    }
    return [
        Quantity(
            key, f"Probe: {' '.join([task, key.removeprefix(PROBE_PREFIX)]).strip()}", share=True
        )
        for key, task in sorted(names)
    ]


def has_values(runs: Sequence[RunMetrics], quantity: Quantity) -> bool:
    """Whether any run recorded the quantity."""
    return any(run.series(kind, quantity.key)[0].size for run in runs for kind in ("train", "eval"))


def image_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as a file on white: `kind` is "svg", "png" or "pdf"."""
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=kind, facecolor="white", dpi=150, metadata=metadata)
    return buffer.getvalue()


def inline_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element for HTML: transparent, in the text's colour, without ids."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[a-zA-Z0-9]+(?:\.\w+)?_\d+"', "<g", text)  # Would repeat on the page.
    text = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", text, count=1)
    return text.replace(INK, "currentColor").strip()


def _draw_run(
    axes: Axes, run: RunMetrics, quantity: Quantity, over: str, *, index: int, alone: bool
) -> list[np.ndarray]:
    """Draws the two curves of a run; returns their values."""
    drawn = []
    evaluations = run.series("eval", quantity.key)[0].size
    # A ninth run has the colour of the first, dashed.
    dashes = "-" if index < len(COLOURS) else "--"
    for kind, label in (("train", "training"), ("eval", "evaluation")):
        places, values = _thin(*run.series(kind, quantity.key, over))
        if not values.size:
            continue
        evaluated = kind == "eval"
        colour = COLOURS[(index + (alone and evaluated)) % len(COLOURS)]
        named = alone or evaluated or not evaluations
        axes.plot(
            places,
            values,
            dashes,
            color=colour,
            linewidth=1.7 if evaluated else 1.2,
            alpha=1.0 if named else 0.5,  # Pale behind the evaluations of the same colour.
            marker="o" if evaluated or values.size == 1 else None,
            markersize=3.5,
            markevery=max(1, values.size // 25),
            label=(label if alone else run.name) if named else None,
        )
        drawn.append(values)
    return drawn


def _thin(places: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_POINTS points, each the mean of as many neighbours."""
    group = -(-len(values) // MAX_POINTS)
    if group <= 1:
        return places, values
    starts = np.arange(0, len(values), group)
    sizes = np.diff(np.append(starts, len(values)))
    return places[starts + sizes - 1], np.add.reduceat(values, starts) / sizes


def _finish_axes(axes: Axes, quantity: Quantity, over: str, values: np.ndarray) -> None:
    axes.set_title(quantity.title, pad=10)
    axes.set_xlabel(AXIS_LABELS[over])
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.locator_params(axis="x", nbins=6)
    axes.margins(x=0.02)
    if not values.size:
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center")
    elif quantity.log and values.min() > 0 and values.max() >= 10 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif quantity.from_zero:
        axes.set_ylim(bottom=min(0.0, values.min()))
    axes.yaxis.set_major_formatter(FuncFormatter(_share if quantity.share else _plain))
    axes.tick_params(which="minor", length=0)


def _add_legend(figure: Figure, axes: Axes, *, num_runs: int) -> None:
    if num_runs > RUNS_BESIDE_CURVES:
        figure.legend(loc="outside lower center", ncols=3)
    else:
        axes.legend(loc="best")


def _plain(value: float, position: int | None = None) -> str:
    return EngFormatter(sep="")(value) if abs(value) >= 10_000 else f"{value:g}"


def _share(value: float, position: int | None = None) -> str:
    return f"{100 * value:g}%"
