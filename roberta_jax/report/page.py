"""One HTML page of one or many runs, without scripts and without anything from elsewhere."""

import os
import time
from collections.abc import Callable, Sequence
from html import escape

from etils import epath

from roberta_jax.errors import UserError
from roberta_jax.page.document import document, write_whole
from roberta_jax.page.stylesheet import COLOURS
from roberta_jax.report import plots, summary
from roberta_jax.report.batches import horizontal_axis
from roberta_jax.report.finetuning import write_finetuning_report
from roberta_jax.report.metrics import NO_WORKDIR, RunMetrics, read_runs
from roberta_jax.tasks.finetuned_folder import is_finetuning_workdir
from roberta_jax.tasks.results import RESULTS_FILE
from roberta_jax.train.workdir import METRICS_FILE

IMAGE_KINDS = ("svg", "png", "pdf")
MAX_EVENTS = 40  # Of one run; the newest are shown.

Path = str | os.PathLike[str]


def write_report(workdirs: Sequence[Path], output: Path, *, refresh_seconds: int = 0) -> epath.Path:
    """Draws the runs and writes the page, first under a temporary name.

    Args:
      workdirs: Folders that `pretrain` wrote, at least one; or the one that `finetune` wrote.
      output: The page, such as `WORKDIR/report.html`.
      refresh_seconds: How often a browser that shows the page loads it again; 0 is never.

    Returns:
      The path of the page.

    Raises:
      UserError: A workdir cannot be read, or has no metrics yet.
    """
    if len(workdirs) == 1 and is_finetuning_workdir(workdirs[0]):
        return write_finetuning_report(workdirs[0], output, refresh_seconds=refresh_seconds)
    page = render(read_runs(workdirs), refresh_seconds=refresh_seconds)
    return write_whole(epath.Path(output), page.encode())


def default_output(workdirs: Sequence[Path]) -> epath.Path:
    """`report.html` in the first workdir."""
    if not workdirs:
        raise UserError(NO_WORKDIR)
    return epath.Path(workdirs[0]) / "report.html"


def write_loss_figure(workdirs: Sequence[Path], output: Path) -> epath.Path:
    """Writes the loss of the runs as one image; the suffix of `output` says of which kind."""
    path = epath.Path(output)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in IMAGE_KINDS:
        raise UserError(
            f"The image {path} cannot be written: its name must end in "
            f"{', '.join('.' + kind for kind in IMAGE_KINDS)}."
        )
    figure = plots.loss_figure(read_runs(workdirs), width_inches=7.5)
    return write_whole(path, plots.image_bytes(figure, kind))


def watch_report(
    workdirs: Sequence[Path],
    output: Path,
    *,
    interval_seconds: int,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Writes the page again whenever the metrics of a run have grown, until interrupted.

    Of a fine-tuning, whenever its results have.
    """
    names = [RESULTS_FILE if is_finetuning_workdir(each) else METRICS_FILE for each in workdirs]
    files = [epath.Path(each) / name for each, name in zip(workdirs, names, strict=True)]
    drawn: list[int] = []
    while True:
        sizes = [file.stat().length for file in files]
        if sizes != drawn:
            write_report(workdirs, output, refresh_seconds=interval_seconds)
            drawn = sizes
        sleep(interval_seconds)


def render(runs: Sequence[RunMetrics], *, refresh_seconds: int = 0) -> str:
    """The page as text. Everything that a run wrote is escaped."""
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    over = (
        " Over the rows seen, since a step of one run is not as many as one of another."
        if horizontal_axis(runs) != "step"
        else ""
    )
    body = f"""<p class="sub">{escape(", ".join(str(run.workdir) for run in runs))}</p>
{_notes(runs)}
<div class="tables">
<div><h2>Result</h2>{_table(runs, summary.result_rows(runs))}</div>
<div><h2>Main settings</h2>{_table(runs, summary.setting_rows(runs), mark=True)}</div>
</div>
<h2>Curves</h2>
<p class="sub">With dots: evaluation on fixed masks. Without: training.{over}</p>
<div class="plots">
{_figures(runs)}
</div>
{_events(runs)}
{_config(runs)}"""
    return document(title, body, refresh_seconds=refresh_seconds)


def _notes(runs: Sequence[RunMetrics]) -> str:
    items = [f"<li>{escape(run.name)}: {escape(note)}</li>" for run in runs for note in run.notes]
    return f'<ul class="notes">{"".join(items)}</ul>' if items else ""


def _table(
    runs: Sequence[RunMetrics], rows: Sequence[summary.Row], *, kind: str = "", mark: bool = False
) -> str:
    heads = "".join(
        f'<th><span class="swatch" style="background:{COLOURS[index % len(COLOURS)]}">'
        f"</span>{escape(run.name)}</th>"
        for index, run in enumerate(runs)
    )
    head = f"<thead><tr><th></th>{heads}</tr></thead>" if len(runs) > 1 else ""
    body = "\n".join(
        f"<tr{' class=differs' if mark and row.differs() else ''}><th>{escape(row.label)}</th>"
        + "".join(f"<td>{escape(value)}</td>" for value in row.values)
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table class="{kind}">{head}<tbody>\n{body}\n</tbody></table></div>'


def _figures(runs: Sequence[RunMetrics]) -> str:
    figures = [f'<figure class="loss">{plots.inline_svg(plots.loss_figure(runs))}</figure>']
    for quantity in (*plots.probe_quantities(runs), *plots.QUANTITIES):
        if plots.has_values(runs, quantity):
            svg = plots.inline_svg(plots.quantity_figure(runs, quantity))
            figures.append(f"<figure>{svg}</figure>")
    return "\n".join(figures)


def _events(runs: Sequence[RunMetrics]) -> str:
    rows = [
        f"<tr><th>{escape(run.name)}</th><td>{event['step']:,}</td>"
        f"<td>{escape(str(event.get('event', '')))}</td>"
        f"<td>{escape(str(event['message']))}</td></tr>"
        for run in runs
        for event in [event for event in run.events if "message" in event][-MAX_EVENTS:]
    ]
    if not rows:
        return ""
    head = "<thead><tr><th>run</th><th>step</th><th>event</th><th></th></tr></thead>"
    body = "\n".join(rows)
    return f'<h2>Events</h2><div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _config(runs: Sequence[RunMetrics]) -> str:
    rows = summary.config_rows(runs)
    differing = [row for row in rows if row.differs()]
    parts = []
    if len(runs) > 1:
        parts.append("<h2>Settings that differ</h2>")
        parts.append(
            _table(runs, differing, kind="config")
            if differing
            else "<p>None: the runs have the same config.</p>"
        )
    table = _table(runs, rows, kind="config", mark=True)
    parts.append(f"<details><summary>Every setting</summary>{table}</details>")
    return "\n".join(parts)
