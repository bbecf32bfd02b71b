"""The loop by itself: which lines, evaluations and saves happen when."""

import contextlib
import itertools
import math
import signal

import numpy as np
import pytest

from roberta_jax.errors import MachineError
from roberta_jax.objective.loss import LossSums
from roberta_jax.train.evaluate import Evaluation
from roberta_jax.train.loop import Hooks, Progress, Window, run_loop
from roberta_jax.train.step import StepMetrics
from tests.train.runs import tiny_config


class State:
    """Stands for a TrainState; the loop only hands its parameters on."""

    params = None


class Recorder:
    """Store, log and console in one: remembers what it was told."""

    def __init__(self, steps=()):
        self.there, self.saved, self.lines, self.said = list(steps), [], [], []
        self.complete = None

    def steps(self):
        return self.there

    def save(self, step, state, record):
        self.saved.append((step, record))

    def wait(self):
        self.saved.append("waited")

    def write(self, kind, **values):
        self.lines.append((kind, values))

    def say(self, line):
        self.said.append(line)

    def progress(self, line, *, lasting):
        self.said.append(line)


def run(
    config,
    *,
    losses=(),
    norms=(),
    start=0,
    there=(),
    signals=None,
    evaluate=lambda params: Evaluation(2.0, 0.5, 9),
    failing=False,
):
    """Runs the loop with a step of given losses (sums over 4 predictions; 8 where none is left)."""
    recorder = Recorder(there)
    losses = itertools.chain(losses, itertools.repeat(8.0))
    norms = itertools.chain(norms, itertools.repeat(1.0))
    progress = Progress(step=start, examples_seen=16 * start, window=Window())

    def step(state, batch):
        if action := (signals or {}).get(progress.step + 1):
            signal.raise_signal(action)
        sums = LossSums(*map(np.float32, (next(losses), 1.0, 4.0)))
        return state, StepMetrics(sums, np.float32(next(norms)), np.float32(0.5))

    hooks = Hooks(
        step=step,
        batches=itertools.repeat({}),
        evaluate=evaluate,
        record=lambda progress: {"at": progress.step, "window": progress.window.count},
    )
    arguments = {"store": recorder, "log": recorder, "console": recorder}
    with contextlib.suppress(*[MachineError] * failing):
        recorder.complete = run_loop(config, State(), progress, hooks, **arguments)
    recorder.progress_at_end = progress
    return recorder


def config_of(**changes):
    names = {"num_steps": 10, "log_every_steps": 4, "evaluate_every_steps": 0} | changes
    save = names.pop("save_every_steps", 100)
    settings = {f"train__{name}": value for name, value in names.items()}
    return tiny_config(checkpoint__save_every_steps=save, **settings)


def steps_in(recorder, kind):
    return [values["step"] for line, values in recorder.lines if line == kind]


def test_lines_evaluations_and_checkpoints_come_at_their_intervals_and_at_the_end():
    found = run(config_of(evaluate_every_steps=3, save_every_steps=5))
    assert found.complete
    assert steps_in(found, "train") == [4, 8, 10]
    assert steps_in(found, "eval") == [3, 6, 9, 10]
    assert [step for step, _ in found.saved[:-1]] == [5, 10]
    assert found.saved[-1] == "waited"


def test_a_checkpoint_knows_the_loss_of_an_evaluation_of_the_same_step_only():
    found = run(config_of(evaluate_every_steps=4, save_every_steps=2))
    losses = {step: record.get("evaluation_loss_nats") for step, record in found.saved[:-1]}
    assert losses == {2: None, 4: 2.0, 6: None, 8: 2.0, 10: 2.0}


def test_a_line_is_the_mean_over_the_predictions_since_the_last_one():
    losses = [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
    found = run(config_of(), losses=losses)
    means = [values["loss_nats"] for kind, values in found.lines if kind == "train"]
    assert means == [40 / 16, 104 / 16, 76 / 8]
    accuracies = {
        values["masked_accuracy"] for _, values in found.lines if "learning_rate" in values
    }
    assert accuracies == {0.25}
    assert found.lines[0][1]["perplexity"] == math.exp(2.5)
    assert found.lines[0][1]["examples_seen"] == 64


def test_a_checkpoint_between_lines_holds_the_sums_so_far():
    found = run(config_of(save_every_steps=3))
    assert [(step, record["window"]) for step, record in found.saved[:-1]] == [
        *((3, 12.0), (6, 8.0), (9, 4.0), (10, 0.0))
    ]


def test_without_validation_rows_nothing_is_evaluated():
    found = run(config_of(evaluate_every_steps=2), evaluate=None)
    assert steps_in(found, "eval") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_step_in_hand_and_saves_it(number):
    found = run(config_of(), signals={6: number})
    assert found.complete is False
    assert [step for step, _ in found.saved[:-1]] == [6]
    assert found.progress_at_end.step == 6 and found.progress_at_end.examples_seen == 96


def test_a_signal_at_a_checkpoint_does_not_save_it_twice():
    found = run(config_of(save_every_steps=5), signals={5: signal.SIGINT})
    assert [step for step, _ in found.saved[:-1]] == [5]


def test_a_signal_during_an_evaluation_saves_the_step():
    def evaluate(params):
        signal.raise_signal(signal.SIGINT)
        return Evaluation(2.0, 0.5, 9)

    found = run(config_of(evaluate_every_steps=3), evaluate=evaluate)
    assert [step for step, _ in found.saved[:-1]] == [3]
    assert found.saved[0][1]["evaluation_loss_nats"] == 2.0


def test_a_second_signal_raises():
    with pytest.raises(KeyboardInterrupt):
        run(
            config_of(), signals={3: signal.SIGINT, 4: signal.SIGINT}, evaluate=None, losses=twice()
        )


def twice():
    yield 1.0
    yield 1.0
    signal.raise_signal(signal.SIGINT)
    yield 1.0


def test_a_finished_run_does_no_step_and_saves_nothing():
    found = run(config_of(), start=10, there=[10])
    assert found.complete and found.saved == ["waited"] and found.lines == []


def test_the_rate_is_counted_without_the_compilation_of_the_first_step():
    found = run(config_of(log_every_steps=1))
    speeds = ["tokens_per_second" in values for kind, values in found.lines if kind == "train"]
    assert speeds == [False] + [True] * 9
    assert found.said[0].startswith("compiled the step in ")
    assert all("seconds" in values for kind, values in found.lines if kind == "train")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("what", ["losses", "norms"])
def test_a_run_that_diverges_saves_nothing_more(bad, what):
    values = [8.0] * 5 + [bad] * 5
    config = config_of(log_every_steps=100, save_every_steps=2)
    with pytest.raises(
        MachineError, match=r"step 6: the run has diverged.* --resume=STEP"
    ) as caught:
        run(config, **{what: values})
    assert caught.value.exit_code == 1
    found = run(config, failing=True, **{what: values})
    assert [step for step, _ in found.saved] == [2, 4]


def test_a_run_that_diverges_says_so_at_its_next_line():
    found = run(config_of(log_every_steps=3), losses=[8, math.nan, 8, 8], failing=True)
    assert found.complete is None and steps_in(found, "train") == [3]


def test_an_interrupt_does_not_save_weights_that_are_no_numbers():
    found = run(config_of(), losses=[8, 8, math.nan], signals={3: signal.SIGINT}, failing=True)
    assert found.complete is None and found.saved == []
