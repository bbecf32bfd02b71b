"""Draws one HTML page of one or many runs: losses, speed, events and settings.

The page needs no network and no other file, so it can be mailed. With several workdirs the curves
share one picture and the settings that differ are listed. The workdir of a fine-tuning, given
alone, has its own page drawn again: the table of results and the figures of each task.

  roberta-jax report --workdir=runs/a
  roberta-jax report --workdir=runs/a --workdir=runs/b --output=compare.html
  roberta-jax report --workdir=runs/a --watch=30
  roberta-jax report --workdir=runs/a --figure=loss.svg
"""

from absl import flags as absl_flags

SUMMARY = "one HTML page with plots, of one or many runs"


def define_flags(flags: absl_flags.FlagValues) -> None:
    """Defines the flags of the verb."""
    absl_flags.DEFINE_multi_string(
        "workdir", [], "Folder of a run; repeat the flag to compare runs.", flag_values=flags
    )
    absl_flags.DEFINE_string(
        "output",
        "",
        "The page; the default is report.html in the first workdir.",
        flag_values=flags,
    )
    absl_flags.DEFINE_string(
        "figure",
        "",
        "Writes only the picture of the loss, to this name (.svg, .png or .pdf).",
        flag_values=flags,
    )
    absl_flags.DEFINE_integer(
        "watch",
        0,
        "Seconds between looks for new metrics, until interrupted; 0 draws once.",
        lower_bound=0,
        flag_values=flags,
    )


def run(flags: absl_flags.FlagValues, arguments: list[str]) -> int:
    """Writes the page, or the picture, and says where it is."""
    from roberta_jax.report import page

    if flags.figure:
        print(f"Wrote {page.write_loss_figure(flags.workdir, flags.figure)}")
        return 0
    output = flags.output or page.default_output(flags.workdir)
    print(f"Wrote {page.write_report(flags.workdir, output)}")
    if flags.watch:
        print("Drawing it again whenever the metrics grow, until interrupted (Ctrl-C).")
        page.watch_report(flags.workdir, output, interval_seconds=flags.watch)
    return 0
