"""The figures hold the numbers of the runs, whatever the numbers are."""

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from roberta_jax.report import plots
from roberta_jax.report.metrics import read_metrics
from tests.report.workdirs import make_config, make_lines, write_workdir


def make_runs(tmp_path, *many_lines):
    return [
        read_metrics(write_workdir(tmp_path / f"run-{index}", lines))
        for index, lines in enumerate(many_lines)
    ]


def curves(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_the_loss_of_one_run_has_a_training_an_evaluation_and_a_reference_line(tmp_path):
    (run,) = make_runs(tmp_path, make_lines(num_steps=500))
    figure = plots.loss_figure([run], reference_nats={"mine": 3.0})
    lines = curves(figure)
    np.testing.assert_array_equal(
        lines["training"].get_xydata().T, run.series("train", "loss_nats")
    )
    np.testing.assert_array_equal(
        lines["evaluation"].get_xydata().T, run.series("eval", "loss_nats")
    )
    assert lines["training"].get_color() != lines["evaluation"].get_color()
    assert set(lines["unigram entropy: 6.31"].get_ydata()) == {6.31}
    assert set(lines["mine"].get_ydata()) == {3.0}


def test_several_runs_share_one_picture_with_a_colour_and_a_name_each(tmp_path):
    runs = make_runs(tmp_path, *(make_lines(num_steps=500, seed=seed) for seed in range(9)))
    figure = plots.loss_figure(runs)
    (legend,) = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named == [run.name for run in runs] + ["unigram entropy: 6.31"]
    looks = {
        (line.get_color(), line.get_linestyle())
        for name, line in curves(figure).items()
        if name.startswith("run-")
    }
    assert len(looks) == 9


def test_a_long_curve_is_thinned_to_means_that_end_at_the_last_step(tmp_path):
    lines = [{"kind": "train", "step": step, "loss_nats": float(step)} for step in range(1, 10_001)]
    (run,) = make_runs(tmp_path, lines)
    steps, values = curves(plots.loss_figure([run]))["training"].get_xydata().T
    assert len(steps) == plots.MAX_POINTS and steps[-1] == 10_000
    assert values.mean() == pytest.approx(5000.5)


def test_runs_of_different_batches_are_drawn_over_the_rows_seen_and_end_together(tmp_path):
    adamw = write_workdir(
        tmp_path / "adamw",
        make_lines(num_steps=1600, log_every=8, batch_size=256),
        make_config(train__batch_size=256),
    )
    lamb = write_workdir(
        tmp_path / "lamb",
        make_lines(num_steps=100, log_every=1, batch_size=4096),
        make_config(train__batch_size=4096, optimizer__kind="lamb"),
    )
    runs = [read_metrics(adamw), read_metrics(lamb)]
    for quantity in (plots.LOSS, *plots.QUANTITIES):
        axes = plots.quantity_figure(runs, quantity).axes[0]
        assert axes.get_xlabel() == "rows seen"
        ends = [line.get_xdata()[-1] for line in axes.get_lines()]
        assert set(ends) <= {409_600} and (ends or quantity.key == "next_sentence_accuracy")
    alone = plots.loss_figure(runs[1:])
    assert alone.axes[0].get_xlabel() == "step"
    assert curves(alone)["training"].get_xdata()[-1] == 100


def test_only_what_a_run_recorded_has_a_figure(tmp_path):
    (pairs, single) = make_runs(
        tmp_path, make_lines(num_steps=500, pairs=True), make_lines(num_steps=500)
    )
    (quantity,) = [one for one in plots.QUANTITIES if one.key == "next_sentence_accuracy"]
    assert plots.has_values([single, pairs], quantity)
    assert not plots.has_values([single], quantity)
    axes = plots.quantity_figure([pairs], quantity).axes[0]
    assert axes.get_title("left") == "Next-sentence accuracy"
    assert axes.yaxis.get_major_formatter()(0.5) == "50%"


def test_perplexity_has_a_logarithmic_axis_and_ticks_to_read(tmp_path):
    runs = make_runs(tmp_path, make_lines(num_steps=500))
    axes = plots.quantity_figure(runs, plots.QUANTITIES[0]).axes[0]
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "log"
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 3


@pytest.mark.parametrize(
    "values",
    [[1.0], [0.0, 0.0], [math.nan], [-1.0, 5.0, 100.0], [1e-9, 1e30], [3.0, math.inf, 4.0]],
)
@pytest.mark.parametrize("quantity", (plots.LOSS, *plots.QUANTITIES), ids=lambda q: q.key)
def test_odd_values_are_drawn_without_a_warning(tmp_path, values, quantity):
    lines = [
        {"kind": "train", "step": step, quantity.key: value} for step, value in enumerate(values)
    ]
    figure = plots.quantity_figure(make_runs(tmp_path, lines), quantity, legend=True)
    assert plots.inline_svg(figure).endswith("</svg>")


def test_an_inline_figure_is_wellformed_and_takes_the_colour_of_the_text(tmp_path):
    svg = plots.inline_svg(plots.loss_figure(make_runs(tmp_path, make_lines(num_steps=100))))
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "currentColor" in svg and plots.INK not in svg
    assert "<script" not in svg and "<metadata" not in svg


@pytest.mark.parametrize(
    ("kind", "begin"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")]
)
def test_the_same_numbers_give_the_same_image(tmp_path, kind, begin):
    runs = make_runs(tmp_path, make_lines(num_steps=100))
    first, second = (plots.image_bytes(plots.loss_figure(runs), kind) for _ in range(2))
    assert first.startswith(begin)
    assert first == second
