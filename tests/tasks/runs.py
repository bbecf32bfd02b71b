"""Results as fine-tuning leaves them, made up."""

from roberta_jax.tasks.catalogue import TASKS
from roberta_jax.tasks.results import CurvePoint, TrialResult, seed_result, task_result


def make_point(task, step, value, *, epoch=None, **fields):
    """An evaluation with all scores `value`; on later dev splits 0.1 less."""
    scores = {
        split: {name: value - 0.1 * place for name in task.scores}
        for place, split in enumerate(task.dev)
    }
    return CurvePoint(
        step=step, epoch=step / 10 if epoch is None else epoch, scores=scores, **fields
    )


def make_trial(task, peaks, *, learning_rate=1e-5, batch_size=16, num_train=160):
    """A trial of a seed per peak: each curve rises to it at step 20 and falls after."""
    seeds = tuple(
        seed_result(
            task,
            seed,
            [
                make_point(task, 10 * (place + 1), peak - drop)
                for place, drop in enumerate((0.1, 0, 0.05))
            ],
        )
        for seed, peak in enumerate(peaks)
    )
    return TrialResult(
        learning_rate=learning_rate,
        batch_size=batch_size,
        epochs=3,
        seeds=seeds,
        num_train=num_train,
    )


def make_result(name="sst2", *many_peaks, task=None, **fields):
    """The result of a task with a trial per list of peaks."""
    task = task or TASKS[name]
    trials = [
        make_trial(task, peaks, learning_rate=1e-5 * (place + 1))
        for place, peaks in enumerate(many_peaks or [[0.9, 0.8, 0.85]])
    ]
    return task_result(task, trials, **fields)
