"""One HTML page of a fine-tuning workdir: the table of results, and each task with its figures."""

import os
from collections.abc import Sequence
from html import escape

from etils import epath

from roberta_jax.page.document import document, table, write_whole
from roberta_jax.report import score_plots
from roberta_jax.report.plots import inline_svg
from roberta_jax.tasks.results import TaskResult, read_results
from roberta_jax.tasks.results_table import (
    HEAD,
    TRIAL_HEAD,
    glue_average,
    percent,
    remarks,
    score_title,
    split_title,
    start_of,
    task_rows,
    trial_rows,
)
from roberta_jax.wording import count_of

PAGE_FILE = "report.html"
MAX_CLASSES = 24  # With more, the confusion matrix is a list of the most frequent confusions.
MAX_CONFUSIONS = 30

Path = str | os.PathLike[str]


def write_finetuning_report(
    folder: Path, output: Path | None = None, *, refresh_seconds: int = 0
) -> epath.Path:
    """Draws the page of a workdir and writes it, first under a temporary name.

    Args:
      folder: the workdir of `finetune`.
      output: the page; `report.html` in the workdir where it is not given.
      refresh_seconds: how often a browser that shows the page loads it again; 0 is never.

    Raises:
      UserError: there are no results that can be read.
    """
    path = epath.Path(folder) / PAGE_FILE if output is None else epath.Path(output)
    return write_whole(path, finetuning_page(folder, refresh_seconds=refresh_seconds).encode())


def finetuning_page(folder: Path, *, refresh_seconds: int = 0) -> str:
    """The page of a workdir as text. Everything that came from outside is escaped.

    Raises:
      UserError: there are no results that can be read.
    """
    results = read_results(folder)
    parts = [f'<p class="sub">{escape(str(folder))}</p>', table(task_rows(results), head=HEAD)]
    average = glue_average(results)
    if average is not None and len(results) > 1:
        parts.append(f"<p><strong>Average: {percent(average.value)}</strong></p>")
    items = "".join(f"<li>{escape(remark)}</li>" for remark in remarks(results))
    parts.append(f'<ul class="notes">{items}</ul>')
    parts.extend(_task_section(result) for result in results)
    title = f"Fine-tuning: {epath.Path(folder).name}"
    return document(title, "\n".join(parts), refresh_seconds=refresh_seconds)


def _task_section(result: TaskResult) -> str:
    split, score = result.decided_by
    by = f"Trials by {score_title(score)} on {split_title(split)}, over the seeds"
    figures = [score_plots.curve_figure(result)]
    if sum(len(trial.seeds) for trial in result.trials) > 1:
        figures.append(score_plots.spread_figure(result))
    drawn = "".join(f"<figure>{inline_svg(figure)}</figure>" for figure in figures)
    return f"""<h2>{escape(result.title)}</h2>
<p class="sub">{escape(start_of(result))}</p>
<div class="plots">{drawn}</div>
<h3>{escape(by)}</h3>
{table(trial_rows(result), head=TRIAL_HEAD)}
{_confusion(result)}"""


def _confusion(result: TaskResult) -> str:
    """The matrix as a table: counts, and in which share of its true class each cell is."""
    if result.confusion is None:
        return ""
    seed = result.median_seed()
    head = (
        f"<h3>Confusion on {escape(split_title(result.dev[0]))}</h3>"
        f'<p class="sub">Seed {seed.seed}, which stands for the best trial, after '
        f"{count_of(seed.best_epoch, 'epoch')}. A row is a true class; in percent, its share.</p>"
    )
    if len(result.labels) > MAX_CLASSES:
        return head + _frequent_confusions(result.labels, result.confusion)
    names = "".join(f"<th>{escape(label)}</th>" for label in result.labels)
    rows = "".join(
        f"<tr><th>{escape(label)}</th>{_cells(counts, place)}</tr>"
        for place, (label, counts) in enumerate(zip(result.labels, result.confusion, strict=True))
    )
    return (
        f'{head}<div class="wide"><table class="confusion"><thead><tr><th>true ↓ predicted →'
        f"</th>{names}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cells(counts: Sequence[int], true_class: int) -> str:
    """The cells of a row: blue where it is right, orange where it is wrong, by the share."""
    total = sum(counts)
    cells = []
    for predicted, count in enumerate(counts):
        share = count / total if total else 0.0
        colour = "59 130 246" if predicted == true_class else "242 113 28"
        shade = f"background: rgb({colour} / {0.7 * share:.3f})"
        cells.append(f'<td style="{shade}">{count:,}<br><small>{percent(share)}%</small></td>')
    return "".join(cells)


def _frequent_confusions(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    """Of many classes: which was taken for which most often."""
    found = [
        (count, true_class, predicted)
        for true_class, counts in enumerate(confusion)
        for predicted, count in enumerate(counts)
        if count and predicted != true_class
    ]
    found.sort(key=lambda each: -each[0])
    rows = [
        [
            labels[true_class],
            labels[predicted],
            f"{count:,}",
            f"{percent(count / sum(confusion[true_class]))}%",
        ]
        for count, true_class, predicted in found[:MAX_CONFUSIONS]
    ]
    return table(rows, head=("true class", "taken for", "times", "share of the true class"))
