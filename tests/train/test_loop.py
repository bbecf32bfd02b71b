"""The loop by itself: which lines, evaluations and saves happen when."""

import contextlib
import dataclasses
import itertools
import math
import signal
import time
from concurrent import futures

import jax
import numpy as np
import pytest

from roberta_jax.checkpoint.store import Restored
from roberta_jax.config import PhaseConfig
from roberta_jax.errors import MachineError
from roberta_jax.objective.loss import LossSums
from roberta_jax.objective.next_sentence import NextSentenceSums
from roberta_jax.parallel.processes import SharedStop
from roberta_jax.train.evaluate import Evaluation
from roberta_jax.train.inputs import BatchSums
from roberta_jax.train.loop import Hooks, Rhythm, run_loop
from roberta_jax.train.plan import make_plan
from roberta_jax.train.programs import CompiledStep
from roberta_jax.train.progress import Progress
from roberta_jax.train.telling import of_pretraining
from roberta_jax.train.update import StepMetrics
from tests.train.runs import tiny_config


class Recorder:
    """Store, log and console in one: remembers what it was told."""

    def __init__(self, steps=()):
        self.there, self.saved, self.lines, self.said = list(steps), [], [], []
        self.complete, self.checked, self.rewound = None, 0, []

    def steps(self):
        return self.there

    def save(self, step, state, record):
        self.saved.append((step, record))
        self.there.append(step)

    def check(self):
        self.checked += 1

    def wait(self):
        self.saved.append("waited")

    def write(self, kind, **values):
        self.lines.append((kind, values))

    def note(self, event, message, **values):
        self.lines.append(("event", {"event": event, "message": message, **values}))

    def rewind(self, after_step):
        self.rewound.append(after_step)
        self.lines = [
            line
            for line in self.lines
            if line[1]["step"] <= after_step or line[1].get("event") == "rolled_back"
        ]

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
    evaluate=lambda state, phase: Evaluation(2.0, 0.5, 9),
    failing=False,
    seconds=0.0,
    lengths=(),
    compile_seconds=0.0,
    **hooks,
):
    """Runs the loop with a step of given losses (sums over 4 predictions; 8 where none is left).

    The state is the number of updates, and a batch the number of rows before it in its phase; or
    an array of the next of `lengths`, which come again and again. Further arguments are hooks.
    """
    recorder = Recorder(there)
    losses = itertools.chain(losses, itertools.repeat(8.0))
    norms = itertools.chain(norms, itertools.repeat(1.0))
    plan = make_plan(config, lambda path: 100)
    rows_seen = {}
    for phase in plan.phases:
        rows = phase.batch_size * max(min(start, phase.end_step) - phase.first_step, 0)
        rows_seen[phase.path] = rows_seen.get(phase.path, 0) + rows
    progress = Progress(step=start, rows_seen=rows_seen)
    device, recorder.batches, recorder.phases, recorder.compiled = Device(), [], [], []

    def step_of(number):
        def step(state, batch):
            if action := (signals or {}).get(progress.step + 1):
                signal.raise_signal(action)
            recorder.batches.append((number, batch))
            loss, norm = next(losses), next(norms)
            sums = BatchSums(
                LossSums(*map(np.float32, (loss, 1.0, 4.0))),
                NextSentenceSums(*map(np.float32, (0, 0, 0))),
                np.float32(0),
            )
            applied = np.float32(math.isfinite(loss) and math.isfinite(norm))
            metrics = StepMetrics(sums, np.float32(norm), np.float32(0.5), applied)
            return state + 1, device.run(metrics, seconds) if seconds else metrics

        return step

    def batches(phase, progress):
        recorder.phases.append(phase.number)
        first = progress.rows_seen.get(phase.path, 0)
        if lengths:
            yield from itertools.cycle([np.zeros(length) for length in lengths])
        yield from itertools.count(first, phase.batch_size)

    def compile(phase, state, batch):
        recorder.compiled.append((phase.number, np.shape(batch)))
        time.sleep(compile_seconds)
        return CompiledStep(step_of(phase.number), 1.25, 2.5)

    def restore():
        step, record = [saved for saved in recorder.saved if saved != "waited"][-1]
        return Restored(step, step, record)

    hooks = Hooks(
        compile=compile,
        batches=batches,
        evaluate=evaluate,
        record=lambda progress: {
            "at": progress.step,
            "window": progress.window.count,
            "progress": progress.to_record(),
        },
        restore=restore,
        **{"telling": of_pretraining(config), **hooks},
    )
    arguments = {"store": recorder, "log": recorder, "console": recorder}
    with contextlib.suppress(*[MachineError] * failing):
        recorder.complete = run_loop(Rhythm.of(config), plan, start, progress, hooks, **arguments)
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
    names = {"duration": "10 steps", "log_every_steps": 4, "evaluate_every_steps": 0} | changes
    save = names.pop("save_every_steps", 100)
    settings = {
        name if "__" in name or name == "phases" else f"train__{name}": value
        for name, value in names.items()
    }
    return tiny_config(checkpoint__save_every_steps=save, **settings)


def saved_steps(recorder):
    return [saved[0] for saved in recorder.saved if saved != "waited"]


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
    found = run(config_of(evaluate_every_steps=2), evaluate=lambda state, phase: None)
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
    assert saved_steps(found) == [6]
    assert found.progress_at_end.step == 6 and found.progress_at_end.examples_seen == 96


def test_a_signal_at_a_checkpoint_does_not_save_it_twice():
    found = run(config_of(save_every_steps=5), signals={5: signal.SIGINT})
    assert [step for step, _ in found.saved[:-1]] == [5]


def test_a_signal_during_an_evaluation_saves_the_step():
    def evaluate(state, phase):
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
    assert found.said[0] == "compiled the step: lowering 1.2 s, compiling 2.5 s"
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
    config = config_of(duration="20 steps", **intervals)
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


# ---- Divergence ---------------------------------------------------------------------------------


def told(recorder, event):
    """(step, message) of the events of a kind."""
    return [
        (values["step"], values["message"])
        for kind, values in recorder.lines
        if kind == "event" and values["event"] == event
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("what", ["losses", "norms"])
def test_an_update_that_is_not_finite_is_left_out_and_counted(bad, what):
    values = [8.0] * 5 + [bad] * 2
    found = run(config_of(save_every_steps=3), **{what: values})
    assert found.complete
    assert [step for step, _ in told(found, "skipped")] == [6, 7]
    lines = [values for kind, values in found.lines if kind == "train"]
    assert [line.get("updates_skipped", 0) for line in lines] == [0, 2, 2]
    # Those steps are not part of the means.
    assert [line["loss_nats"] for line in lines] == [2.0, 2.0, 2.0]
    records = {step: record["progress"] for step, record in found.saved[:-1]}
    skips = {s: (r["updates_skipped"], r["skips_in_a_row"]) for s, r in records.items()}
    assert skips == {3: (0, 0), 6: (1, 1), 9: (2, 0), 10: (2, 0)}


def test_a_line_of_left_out_updates_alone_has_no_loss():
    found = run(config_of(log_every_steps=1), losses=[8.0, math.nan])
    lines = [values for kind, values in found.lines if kind == "train"]
    assert [math.isnan(line["loss_nats"]) for line in lines] == [False, True, *[False] * 8]


@pytest.mark.parametrize("log_every_steps", [1, 100])
def test_too_many_skips_in_a_row_end_the_run(log_every_steps):
    config = config_of(
        log_every_steps=log_every_steps, save_every_steps=3, divergence__max_skips_in_a_row=2
    )
    losses = [8.0, math.nan, math.nan, 8.0, math.nan, math.nan, math.nan]
    with pytest.raises(MachineError, match=r"at step 7, in 3 steps in a row .*=STEP"):
        run(config, losses=losses)
    found = run(config, losses=losses, failing=True)
    assert found.complete is None
    assert saved_steps(found)[:2] == [3, 6]
    ((step, message),) = told(found, "diverged")
    assert step == 7 and "the run has diverged" in message


def losses_with_a_spike(at, height=80.0):
    """30 losses near 8 (2 nats), and a high one as number `at`, from 1."""
    losses = [8.0 + 0.04 * (number % 5) for number in range(60)]
    losses[at - 1] = height
    return losses


def spiky_config(**changes):
    settings = {
        "duration": "40 steps",
        "log_every_steps": 10,
        "save_every_steps": 8,
        "divergence__spike_window_steps": 16,
    }
    return config_of(**(settings | changes))


@pytest.mark.parametrize("log_every_steps", [1, 10, 40])
def test_a_spike_is_recorded_at_its_step_whenever_it_is_looked_at(log_every_steps):
    found = run(spiky_config(log_every_steps=log_every_steps), losses=losses_with_a_spike(21))
    ((step, message),) = told(found, "spike")
    assert step == 21 and "the loss of step 21 is 20.0000 nats" in message
    assert found.complete and found.rewound == []


@pytest.mark.parametrize("log_every_steps", [1, 7])
def test_events_know_the_rows_of_their_step_whatever_is_under_way(log_every_steps):
    losses = losses_with_a_spike(21)
    losses[24] = math.nan
    found = run(spiky_config(log_every_steps=log_every_steps), losses=losses)
    seen = {
        values["event"]: (values["step"], values["examples_seen"])
        for kind, values in found.lines
        if kind == "event"
    }
    assert seen == {"spike": (21, 21 * 16), "skipped": (25, 25 * 16)}


def test_the_time_left_is_that_of_the_steps_to_come():
    phases = (PhaseConfig(duration="10 steps"), PhaseConfig(duration="10 steps", batch_size=160))
    config = config_of(duration="20 steps", phases=phases, log_every_steps=5)

    def evaluate(state, phase):
        time.sleep(0.3)
        return Evaluation(2.0, 0.5, 9)

    config.train.evaluate_every_steps = 4
    found = run(config, seconds=0.02, evaluate=evaluate)
    (line,) = [line for line in found.said if line.startswith("step 5/20")]
    # 5 steps of 20 ms to come, and 10 ten times as large: about 2.1 s, evaluations left out.
    left = float(line.rsplit("| ", 1)[1].split()[0])
    assert 2 <= left <= 4, line


def test_a_spike_over_several_steps_is_told_once():
    losses = losses_with_a_spike(21)
    losses[21] = losses[22] = 70.0
    assert [step for step, _ in told(run(spiky_config(), losses=losses), "spike")] == [21]


@pytest.mark.parametrize("log_every_steps", [1, 3, 10])
def test_a_rollback_goes_on_from_the_checkpoint_before_without_the_rows_since(log_every_steps):
    config = spiky_config(log_every_steps=log_every_steps, divergence__max_rollbacks=1)
    found = run(config, losses=losses_with_a_spike(21))
    assert found.complete and found.rewound == [16]
    ((step, message),) = told(found, "rolled_back")
    assert step == 17 and "back to step 16; the 80 rows since are left out" in message
    # The next batch is the one after the spike's, whatever was under way.
    steps_run = {1: 21, 3: 21, 10: 24}[log_every_steps]  # The checkpoint of 24 waits for them.
    assert [rows for _, rows in found.batches[steps_run - 1 : steps_run + 2]] == [
        16 * number for number in (steps_run - 1, 21, 22)
    ]
    assert found.progress_at_end.rows_seen == {"": 16 * (40 + 5)}
    assert found.progress_at_end.rollbacks == 1
    assert saved_steps(found)[:2] == [8, 16]
    steps = steps_in(found, "train")
    assert steps == sorted(set(steps)) and steps[-1] == 40


def test_rollbacks_are_limited_and_further_spikes_recorded():
    losses = losses_with_a_spike(21)
    losses[33] = 80.0
    found = run(spiky_config(log_every_steps=1, divergence__max_rollbacks=1), losses=losses)
    assert len(told(found, "rolled_back")) == 1
    assert len(told(found, "spike")) == 1
    assert found.complete


def test_a_rollback_is_told_to_the_shared_stop(monkeypatch):
    """A wish to stop of another process must not wait for a step that is far away again."""
    told_back = []
    monkeypatch.setattr(SharedStop, "went_back", lambda stop: told_back.append(stop))
    config = spiky_config(log_every_steps=1, divergence__max_rollbacks=1)
    run(config, losses=losses_with_a_spike(21))
    assert len(told_back) == 1


def test_a_run_may_go_back_to_the_same_checkpoint_again():
    losses = losses_with_a_spike(21)
    losses[24] = 80.0  # The fourth step after the first rollback, step 20.
    found = run(spiky_config(log_every_steps=1, divergence__max_rollbacks=2), losses=losses)
    assert found.rewound == [16, 16] and found.complete
    messages = [message for step, message in told(found, "rolled_back") if step == 17]
    assert "the loss of step 21" in messages[0] and "the 80 rows since" in messages[0]
    # Those of the first are not there again: five batches, and four more.
    assert "the loss of step 20" in messages[1] and "the 144 rows since" in messages[1]
    assert found.progress_at_end.rows_seen == {"": 16 * (40 + 5 + 4)}


def test_without_a_checkpoint_there_is_no_way_back():
    config = spiky_config(save_every_steps=1000, divergence__max_rollbacks=3)
    found = run(config, losses=losses_with_a_spike(21))
    assert [step for step, _ in told(found, "spike")] == [21] and found.rewound == []


# ---- Phases -------------------------------------------------------------------------------------


def phases_config(**changes):
    phases = (
        PhaseConfig(duration="4 steps", batch_size=8, path="short"),
        PhaseConfig(duration="3 steps"),
        PhaseConfig(duration="3 steps", batch_size=32),
    )
    return config_of(phases=phases, **changes)


def test_every_phase_has_its_batches_and_its_lines():
    found = run(phases_config())
    assert found.complete and found.phases == [0, 1, 2]
    assert [number for number, _ in found.batches] == [0] * 4 + [1] * 3 + [2] * 3
    assert steps_in(found, "train") == [4, 7, 8, 10]  # Also where a phase ends.
    seen = [values["examples_seen"] for kind, values in found.lines if kind == "train"]
    assert seen == [32, 80, 112, 176]
    # Phases on one dataset go on in it.
    assert found.progress_at_end.rows_seen == {"short": 32, "": 48 + 96}
    assert [rows for number, rows in found.batches if number == 2] == [48, 80, 112]


@pytest.mark.parametrize("start", [3, 4, 6, 9])
def test_a_run_goes_on_in_any_phase(start):
    straight, found = run(phases_config()), run(phases_config(), start=start, there=[start])
    assert found.batches == straight.batches[start:]
    assert found.progress_at_end.rows_seen == straight.progress_at_end.rows_seen


def test_losses_of_another_phase_are_no_measure():
    phases = (PhaseConfig(duration="20 steps"), PhaseConfig(duration="20 steps", batch_size=8))
    losses = [8.0] * 20 + [30.0] * 20
    found = run(spiky_config(phases=phases), losses=losses)
    assert told(found, "spike") == []
    assert [step for step, _ in told(run(spiky_config(), losses=losses), "spike")] == [21]


# ---- Probes, what an evaluation changes, and shapes ---------------------------------------------


def test_a_probe_comes_at_its_interval_and_at_the_end():
    seen = []

    def probe(state):
        seen.append(state)
        return {"accuracy": state / 100, "f1": 0.5}

    config = config_of(evaluate_every_steps=5, probe__every_steps=4)
    found = run(config, probe=probe)
    assert seen == [4, 8, 10]  # The state is the number of updates.
    probes = [
        values for kind, values in found.lines if kind == "eval" and "probe_accuracy" in values
    ]
    assert probes == [
        {"step": step, "examples_seen": 16 * step, "probe_accuracy": step / 100, "probe_f1": 0.5}
        for step in (4, 8, 10)
    ]
    assert steps_in(found, "eval") == [4, 5, 8, 10, 10]
    assert "step 8: probe: accuracy 8.0, f1 50.0" in found.said


def test_no_probe_comes_where_none_is_asked_for():
    calls = []
    run(config_of(), probe=lambda state: calls.append(state) or {})
    assert calls == []
    found = run(config_of(probe__every_steps=4))  # The loop of `finetune` has none.
    assert found.complete and steps_in(found, "eval") == [10]


def test_the_losses_of_a_checkpoint_are_those_of_the_evaluation_and_not_of_a_probe():
    found = run(
        config_of(evaluate_every_steps=4, save_every_steps=2, probe__every_steps=2),
        probe=lambda state: {"accuracy": 0.1},
    )
    losses = {step: record.get("evaluation_loss_nats") for step, record in found.saved[:-1]}
    assert losses == {2: None, 4: 2.0, 6: None, 8: 2.0, 10: 2.0}


def test_the_time_of_a_probe_is_not_that_of_the_steps():
    def probe(state):
        time.sleep(0.5)
        return {"accuracy": 0.0}

    config = config_of(log_every_steps=5, probe__every_steps=2)
    found = run(config, seconds=0.01, probe=probe)
    rates = [values["tokens_per_second"] for _, values in found.lines if "learning_rate" in values]
    # 16 rows of 32 tokens in 10 ms and a little; with the pauses it would be 2,000.
    assert len(rates) == 2 and min(rates) > 10_000


def test_the_state_becomes_what_an_evaluation_makes_of_it():
    adopted = []

    def adopt(state, evaluation):
        adopted.append((state, evaluation.loss_nats))
        return state + 1000

    probed = []
    found = run(
        config_of(evaluate_every_steps=4, probe__every_steps=4),
        adopt=adopt,
        probe=lambda state: probed.append(state) or {},
    )
    assert adopted == [(4, 2.0), (1008, 2.0), (2010, 2.0)]
    assert probed == [1004, 2008, 3010]
    assert found.complete


def test_what_an_evaluation_makes_of_the_state_is_saved():
    states = {}
    original = Recorder.save

    def save(self, step, state, record):
        states[step] = state
        original(self, step, state, record)

    with pytest.MonkeyPatch.context() as context:
        context.setattr(Recorder, "save", save)
        run(
            config_of(evaluate_every_steps=4, save_every_steps=4),
            adopt=lambda state, evaluation: state + 1000,
        )
    assert states == {4: 1004, 8: 2008, 10: 3010}


def test_without_an_evaluation_nothing_is_adopted():
    found = run(
        config_of(evaluate_every_steps=4),
        evaluate=lambda state, phase: None,
        adopt=lambda state, evaluation: 1 / 0,
    )
    assert found.complete


def test_every_shape_of_a_batch_is_compiled_once():
    found = run(config_of(), lengths=(32, 16, 32, 64))
    assert found.complete
    assert found.compiled == [(0, (32,)), (0, (16,)), (0, (64,))]
    assert sum("compiled the step" in line for line in found.said) == 3
    assert [len(batch) for _, batch in found.batches] == [32, 16, 32, 64, 32, 16, 32, 64, 32, 16]


def test_a_step_of_one_shape_of_many_says_for_which_it_is_compiled():
    config = config_of()
    telling = dataclasses.replace(
        of_pretraining(config), compiled_for=lambda batch: f" for {len(batch)} rows"
    )
    found = run(config, lengths=(32, 16), telling=telling)
    said = [line.partition(":")[0] for line in found.said if "compiled" in line]
    assert said == ["compiled the step for 32 rows", "compiled the step for 16 rows"]


def test_every_phase_compiles_its_own():
    found = run(phases_config(), lengths=(32, 16))
    assert found.compiled == [
        (number, shape) for number, shape in ((0, (32,)), (0, (16,)), (1, (32,)), (1, (16,)))
    ] + [(2, (32,)), (2, (16,))]


def test_the_time_of_compiling_a_second_shape_is_not_that_of_the_steps():
    found = run(
        config_of(log_every_steps=5), seconds=0.01, lengths=(32, 16, 8, 4), compile_seconds=0.3
    )
    rates = [values["tokens_per_second"] for _, values in found.lines if "learning_rate" in values]
    assert len(rates) == 2 and min(rates) > 10_000
