"""The loop by itself: which lines, evaluations and saves happen when."""

import contextlib
import itertools
import math
import signal
import time
from concurrent import futures

import jax
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
        self.complete, self.checked = None, 0

    def steps(self):
        return self.there

    def save(self, step, state, record):
        self.saved.append((step, record))

    def check(self):
        self.checked += 1

    def wait(self):
        self.saved.append("waited")

    def write(self, kind, **values):
        self.lines.append((kind, values))

    def note(self, event, message, **values):
        self.lines.append(("event", {"event": event, "message": message, **values}))

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
    seconds=0.0,
):
    """Runs the loop with a step of given losses (sums over 4 predictions; 8 where none is left)."""
    recorder = Recorder(there)
    losses = itertools.chain(losses, itertools.repeat(8.0))
    norms = itertools.chain(norms, itertools.repeat(1.0))
    progress = Progress(step=start, examples_seen=16 * start, window=Window())
    device = Device()

    def step(state, batch):
        if action := (signals or {}).get(progress.step + 1):
            signal.raise_signal(action)
        sums = LossSums(*map(np.float32, (next(losses), 1.0, 4.0)))
        metrics = StepMetrics(sums, np.float32(next(norms)), np.float32(0.5))
        return state, device.run(metrics, seconds) if seconds else metrics

    hooks = Hooks(
        step=step,
        batches=itertools.repeat({}),
        evaluate=evaluate,
        record=lambda progress: {"at": progress.step, "window": progress.window.count},
    )
    arguments = {"store": recorder, "log": recorder, "console": recorder}
    with contextlib.suppress(*[MachineError] * failing):
        recorder.complete = run_loop(config, State(), progress, hooks, **arguments)
    recorder.progress_at_end, recorder.device = progress, device
    return recorder


class Device:
    """Computes steps one after the other while the loop goes on, as an accelerator does."""

    def __init__(self):
        self.executor = futures.ThreadPoolExecutor(1)
        self.begun = self.done = self.most_waiting = 0

    def run(self, metrics, seconds):
        self.begun += 1
        self.most_waiting = max(self.most_waiting, self.begun - self.done)
        later = self.executor.submit(self._compute, seconds)
        return jax.tree.map(lambda value: Later(later, value), metrics)

    def _compute(self, seconds):
        time.sleep(seconds)
        self.done += 1


class Later:
    """A number that is there when the device has computed it, as a jax.Array."""

    def __init__(self, later, value):
        self.later, self.value = later, value

    def block_until_ready(self):
        self.later.result()
        return self

    def __array__(self, *arguments, **options):
        return np.asarray(self.block_until_ready().value)


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
    assert found.lines[-1] == (
        "event",
        {
            "event": "interrupted",
            "message": "interrupted: step 6 is saved",
            "step": 6,
            "examples_seen": 96,
        },
    )
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


def test_a_second_signal_acts_at_once():
    def losses():
        yield from (1.0, 1.0)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second signal was ignored")

    with pytest.raises(KeyboardInterrupt):
        run(config_of(), signals={3: signal.SIGINT}, losses=losses())


def test_a_finished_run_does_no_step_and_saves_nothing():
    found = run(config_of(), start=10, there=[10])
    assert found.complete and found.saved == ["waited"] and found.lines == []


def test_the_rate_is_counted_without_the_compilation_of_the_first_step():
    found = run(config_of(log_every_steps=1))
    speeds = ["tokens_per_second" in values for kind, values in found.lines if kind == "train"]
    assert speeds == [False] + [True] * 9
    assert found.said[0].startswith("compiled the step in ")
    assert all("seconds" in values for kind, values in found.lines if kind == "train")


@pytest.mark.parametrize(
    "intervals",
    [
        {"log_every_steps": 10},
        {"log_every_steps": 10, "save_every_steps": 4},
        {"log_every_steps": 10, "evaluate_every_steps": 4},
    ],
    ids=["neither", "saves", "evaluations"],
)
def test_the_rate_is_that_of_the_steps_whatever_else_waits_for_them(intervals):
    config = config_of(num_steps=20, **intervals)
    found = run(config, seconds=0.02)
    rates = [line["tokens_per_second"] for kind, line in found.lines if kind == "train"]
    tokens = config.train.batch_size * config.data.sequence_length
    # The steps of the device take 20 ms or, on a busy machine, longer: never less.
    assert all(0.2 * tokens / 0.02 < rate < 1.05 * tokens / 0.02 for rate in rates), rates


def test_few_steps_are_in_flight_so_that_an_interrupt_ends_soon():
    found = run(config_of(log_every_steps=10), seconds=0.01)
    assert found.device.most_waiting <= 3
    assert found.complete


def test_a_save_that_failed_in_the_background_is_noticed_at_the_next_line():
    assert run(config_of(log_every_steps=2)).checked == 5


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
    kind, event = found.lines[-1]
    assert kind == "event" and event["event"] == "diverged" and "step 3" in event["message"]


def test_an_interrupt_does_not_save_weights_that_are_no_numbers():
    found = run(config_of(), losses=[8, 8, math.nan], signals={3: signal.SIGINT}, failing=True)
    assert found.complete is None and found.saved == []
