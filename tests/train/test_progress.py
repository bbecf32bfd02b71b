"""Where a run stands, and how it is stored."""

import json

from roberta_jax.train.progress import Progress, Window


def test_it_survives_json():
    progress = Progress(
        step=7,
        rows_seen={"short": 32, "long": 16},
        window=Window(loss=1.5, correct=1.0, count=4.0, pair_loss=0.25, pairs_correct=1, pairs=2),
        updates_skipped=3,
        skips_in_a_row=1,
        rollbacks=2,
        recent_losses=[0.1 + 0.2, 1e-30],
        in_spike=True,
    )
    stored = json.loads(json.dumps(progress.to_record()))
    assert Progress.from_record(7, stored) == progress
    assert progress.examples_seen == 48


def test_a_dataset_that_was_moved_keeps_its_place():
    progress = Progress(step=1, rows_seen={"a": 32, "b": 16})
    assert progress.renamed({"a": "c"}).rows_seen == {"c": 32, "b": 16}
    assert progress.rows_seen == {"a": 32, "b": 16}


def test_the_means_of_a_window_are_over_predictions_and_pairs():
    window = Window(loss=10.0, correct=2.0, count=4.0, pair_loss=3.0, pairs_correct=1.0, pairs=2.0)
    means = window.means()
    assert (means.loss_nats, means.masked_accuracy, means.num_predictions) == (2.5, 0.5, 4)
    assert (means.next_sentence_loss_nats, means.next_sentence_accuracy) == (1.5, 0.5)
