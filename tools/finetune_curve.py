"""Draws what pretraining is worth: dev scores over the number of training rows.

  python tools/finetune_curve.py --runs=FOLDER --output=docs/finetuning.png \\
    --page=docs/finetuning.md

FOLDER holds fine-tuning workdirs, one for every share of the training rows and kind of weights
(pretrained or random); what they are is read from their results.json, and no two may be the same.
The table between the marks of the page is written anew.
"""

import argparse
import pathlib
import re

import matplotlib
from matplotlib.figure import Figure

from roberta_jax.errors import UserError
from roberta_jax.page.stylesheet import COLOURS
from roberta_jax.report.plots import STYLE
from roberta_jax.tasks.results import read_results

MARKS = ("<!-- curve: begin -->", "<!-- curve: end -->")
KINDS = ("pretrained", "random weights")


def read_runs(folder):
    """Task → kind of weights → rows → (result, spread of the deciding score).

    Raises UserError where two workdirs are the same point of the curve.
    """
    found, places = {}, {}
    for path in sorted(folder.glob("*/results.json")):
        for result in read_results(path.parent):
            kind = KINDS[0 if result.init_from else 1]
            split, score = result.decided_by
            spread = result.best_trial().spread(split, score)
            rows = result.best_trial().num_train
            other = places.setdefault((result.name, kind, rows), path.parent)
            if other != path.parent:
                raise UserError(
                    f"{other} and {path.parent} both hold {result.title} of {kind} with {rows:,} "
                    f"training rows, and the curve has one place for it. Move one of them out of "
                    f"{folder}."
                )
            found.setdefault(result.name, {}).setdefault(kind, {})[rows] = (result, spread)
    return found


def table(found):
    """Markdown: a row for every task and number of training rows."""
    lines = [
        "| task | training rows | pretrained | random weights | difference | seeds | published: "
        "base, large |",
        "|---|---|---|---|---|---|---|",
    ]
    for kinds in found.values():
        for rows in sorted(set().union(*kinds.values())):
            cells, medians, seeds, title = [], [], set(), ""
            for kind in KINDS:
                if rows not in kinds.get(kind, {}):
                    cells.append("")
                    continue
                result, spread = kinds[kind][rows]
                trial, title = result.best_trial(), f"{result.title}, {result.decided_by[1]}"
                published = ", ".join(f"{value:g}" for _, value in result.published)
                seeds.add(len(trial.seeds))
                medians.append(spread.median)
                cells.append(
                    f"{100 * spread.median:.1f} ({100 * spread.min:.1f} to {100 * spread.max:.1f})"
                )
            gain = f"{100 * (medians[0] - medians[1]):+.1f}" if len(medians) == 2 else ""
            count = ", ".join(map(str, sorted(seeds)))
            lines.append(
                f"| {title} | {rows:,} | {' | '.join(cells)} | {gain} | {count} | {published} |"
            )
    return "\n".join(lines)


def draw(found, output):
    """A panel for each task: median and range over the seeds."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(found), 3.2), layout="constrained")
        for axes, kinds in zip(
            figure.subplots(1, len(found), squeeze=False)[0], found.values(), strict=True
        ):
            for kind, colour in zip(KINDS, COLOURS, strict=False):
                points = sorted(kinds.get(kind, {}).items())
                if not points:
                    continue
                rows = [rows for rows, _ in points]
                spreads = [spread for _, (_, spread) in points]
                axes.plot(
                    rows,
                    [100 * spread.median for spread in spreads],
                    marker="o",
                    markersize=4,
                    color=colour,
                    label=kind,
                )
                axes.fill_between(
                    rows,
                    [100 * spread.min for spread in spreads],
                    [100 * spread.max for spread in spreads],
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
            result, _ = next(iter(next(iter(kinds.values())).values()))
            low, high = axes.get_ylim()
            if high - low < 2:  # A tenth of a point must not fill the panel.
                axes.set_ylim((low + high) / 2 - 1, (low + high) / 2 + 1)
            axes.set_title(result.title)
            axes.set_xscale("log")
            axes.set_xlabel("training rows")
            axes.set_ylabel(f"dev {result.decided_by[1].replace('_', ' ')}")
            axes.legend(loc="upper left")
        figure.savefig(output, dpi=150, facecolor="white", metadata={"Software": None})


def read_page(path):
    """The parts of the page before and behind the marks; UserError where it has not one pair."""
    page = path.read_text(encoding="utf-8")
    parts = re.split("|".join(map(re.escape, MARKS)), page)
    if len(parts) != 3 or page.index(MARKS[0]) > page.index(MARKS[1]):
        raise UserError(f"{path} must have the marks {' and '.join(MARKS)}, each once.")
    return parts[0], parts[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--page", type=pathlib.Path)
    arguments = parser.parse_args()
    try:  # Everything is read before anything is written.
        found = read_runs(arguments.runs)
        around = read_page(arguments.page) if arguments.page else None
    except (OSError, UserError) as error:
        parser.error(str(error))
    if not found:
        parser.error(f"{arguments.runs} holds no workdir with results.json")
    draw(found, arguments.output)
    text = table(found)
    print(text)
    if around:
        page = f"{around[0]}{MARKS[0]}\n{text}\n{MARKS[1]}{around[1]}"
        arguments.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
