"""The figures of fine-tuning hold the scores."""

import numpy as np

from roberta_jax.report.score_plots import TRIALS_BESIDE_CURVES, curve_figure, spread_figure
from tests.tasks.runs import make_result


def test_a_line_per_seed_with_the_best_trial_bold():
    result = make_result("cola", [0.3, 0.4], [0.6, 0.5, 0.7])
    figure = curve_figure(result)
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 1]
    drawn = [line.get_xydata().T.tolist() for line in lines]
    assert drawn == [
        [
            [point.epoch for point in seed.curve],
            [point.scores["dev"]["matthews"] for point in seed.curve],
        ]
        for trial in result.trials
        for seed in trial.seeds
    ]
    widths = [line.get_linewidth() for line in lines]
    assert widths[0] == widths[1] < widths[2] == widths[3] == widths[4]
    assert lines[0].get_color() != lines[2].get_color() == lines[4].get_color()
    dots = [line.get_xydata()[0].tolist() for line in figure.axes[0].get_lines()][1::2]
    assert dots[0] == [2.0, 0.3]
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["1e-05, batch 16, 3 epochs", "2e-05, batch 16, 3 epochs, best"]


def test_many_trials_have_their_legend_below():
    result = make_result("cola", *[[0.1 * place] for place in range(TRIALS_BESIDE_CURVES + 1)])
    figure = curve_figure(result)
    assert figure.axes[0].get_legend() is None
    assert len(figure.legends[0].get_texts()) == TRIALS_BESIDE_CURVES + 1


def test_a_dot_per_seed_and_a_bar_at_the_median_of_each_trial():
    result = make_result("sst2", [0.9, 0.8, 0.7], [0.6])
    axes = spread_figure(result).axes[0]
    dots = np.concatenate([line.get_xydata() for line in axes.get_lines()])
    assert dots.tolist() == [[0, 0.9], [0, 0.8], [0, 0.7], [1, 0.6]]
    bars = [
        segment[0, 1] for collection in axes.collections for segment in collection.get_segments()
    ]
    assert bars == [0.8, 0.6]
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        "1e-05\nbatch 16",
        "2e-05\nbatch 16",
    ]
