"""The figures of fine-tuning: the dev score over the epochs, and its spread over the trials."""

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from roberta_jax.page.stylesheet import COLOURS
from roberta_jax.report.plots import STYLE
from roberta_jax.tasks.results import SeedResult, TaskResult
from roberta_jax.tasks.results_table import score_title, split_title, trial_title

TRIALS_BESIDE_CURVES = 4  # More trials than this have their legend below the axes.
_WIDTH_INCHES, _HEIGHT_INCHES = 5.4, 3.4


def curve_figure(result: TaskResult) -> Figure:
    """The deciding score of every seed over the epochs: a colour per trial, the best one bold.

    The dot on a line is the epoch that counts.
    """
    best = result.best_trial()
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(f"{_score(result)} over the epochs")
        for place, trial in enumerate(result.trials):
            colour, is_best = _colour(result, place), trial is best
            for number, seed in enumerate(trial.seeds):
                axes.plot(
                    [point.epoch for point in seed.curve],
                    _values(result, seed),
                    "-" if place < len(COLOURS) else "--",
                    color=colour,
                    linewidth=2.0 if is_best else 0.8,
                    alpha=1.0 if is_best else 0.55,
                    zorder=3 if is_best else 2,
                    label=_in_legend(result, place) if number == 0 else None,
                )
                axes.plot(
                    seed.best_epoch,
                    seed.scores[result.dev[0]][result.score_names[0]],
                    "o",
                    color=colour,
                    markersize=5 if is_best else 2.5,
                    zorder=4 if is_best else 2,
                )
        axes.set_xlabel("epoch")
        axes.margins(x=0.03)
        if len(result.trials) > TRIALS_BESIDE_CURVES:
            figure.legend(loc="outside lower center", ncols=2)
        elif len(result.trials) > 1:
            axes.legend(loc="best")
        return figure


def spread_figure(result: TaskResult) -> Figure:
    """The deciding score of every trial: a dot per seed at its best epoch, a bar at the median."""
    best = result.best_trial()
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(f"{_score(result)} by trial")
        for place, trial in enumerate(result.trials):
            values = trial.values(*result.decided_by)
            colour = _colour(result, place)
            axes.plot([place] * len(values), values, "o", color=colour, markersize=5, alpha=0.5)
            spread = trial.spread(*result.decided_by)
            if spread is not None:
                width = 3.0 if trial is best else 1.5
                axes.hlines(spread.median, place - 0.25, place + 0.25, colour, linewidth=width)
        axes.set_xticks(
            range(len(result.trials)),
            [f"{trial.learning_rate:g}\nbatch {trial.batch_size}" for trial in result.trials],
            rotation=90 if len(result.trials) > 8 else 0,
        )
        axes.set_xlim(-0.6, len(result.trials) - 0.4)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("learning rate and batch; dots are seeds, the bar is their median")
        return figure


def _axes(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), layout="constrained")
    axes = figure.add_subplot()
    # A name from outside may hold a "$", which begins a formula.
    axes.set_title(title, pad=10, parse_math=False)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
    axes.locator_params(axis="y", nbins=7)
    return figure, axes


def _score(result: TaskResult) -> str:
    split, score = result.decided_by
    title = score_title(score)
    return f"{title[:1].upper()}{title[1:]} on {split_title(split)} (× 100)"


def _values(result: TaskResult, seed: SeedResult) -> Sequence[float]:
    split, score = result.decided_by
    return [point.scores[split][score] for point in seed.curve]


def _colour(result: TaskResult, place: int) -> str:
    """Of the trial of that number: the first colour is that of the best one."""
    best = result.trials.index(result.best_trial())
    if place == best:
        return COLOURS[0]
    return COLOURS[1 + (place - (place > best)) % (len(COLOURS) - 1)]


def _in_legend(result: TaskResult, place: int) -> str:
    trial = result.trials[place]
    return trial_title(trial) + (", best" if trial is result.best_trial() else "")
