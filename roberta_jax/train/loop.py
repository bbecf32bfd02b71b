"""Steps, log lines, evaluations and checkpoints, until the end or an interrupt."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator
from typing import Any

import jax

from roberta_jax.checkpoint.store import CheckpointStore, Restored
from roberta_jax.config import DivergenceConfig, PretrainConfig
from roberta_jax.errors import MachineError
from roberta_jax.parallel.processes import SharedStop
from roberta_jax.train.clock import Clock
from roberta_jax.train.console import RunConsole
from roberta_jax.train.divergence import Spike, observe
from roberta_jax.train.evaluate import mean
from roberta_jax.train.interrupt import InterruptWish
from roberta_jax.train.metrics import ROLLED_BACK, MetricsLog
from roberta_jax.train.plan import Phase, Plan
from roberta_jax.train.programs import CompiledStep
from roberta_jax.train.progress import Progress, Window
from roberta_jax.train.telling import Evaluated, Telling
from roberta_jax.train.update import StepMetrics

# Steps that the devices may have before them. More would not make them faster, and an interrupt
# waits for all of them.
MOST_STEPS_IN_FLIGHT = 2


State = Any  # What a step changes, as a tree of arrays; its buffers are donated.


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often what is done between the steps; 0: at the end only.

    Attributes:
      log_every_steps: a line of the record.
      evaluate_every_steps: an evaluation.
      save_every_steps: a checkpoint.
      probe_every_steps: a look at a task.
      divergence: what is done when the loss goes astray.
    """

    log_every_steps: int
    evaluate_every_steps: int
    save_every_steps: int
    divergence: DivergenceConfig
    probe_every_steps: int = 0

    @classmethod
    def of(cls, config: PretrainConfig) -> "Rhythm":
        """That of a pretraining run."""
        return cls(
            log_every_steps=config.train.log_every_steps,
            evaluate_every_steps=config.train.evaluate_every_steps,
            save_every_steps=config.checkpoint.save_every_steps,
            divergence=config.divergence,
            probe_every_steps=config.probe.every_steps,
        )


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What the loop calls; built by `pretrain`, or by a trial of `finetune`."""

    # Compiles the step of a phase for arrays like these.
    compile: Callable[[Phase, State, dict[str, Any]], CompiledStep]
    # Batches of a phase, from where the progress says.
    batches: Callable[[Phase, Progress], Generator[dict[str, Any]]]
    # On the validation rows of a phase; None where there are none.
    evaluate: Callable[[State, Phase], Evaluated | None]
    record: Callable[[Progress], dict[str, Any]]  # What is stored beside a checkpoint.
    # The newest good checkpoint.
    restore: Callable[[], Restored]
    telling: Telling
    # Scores of a task, as fractions, and their names; None where none is looked at.
    probe: Callable[[State], dict[str, float]] | None = None
    # What the state becomes by an evaluation of it.
    adopt: Callable[[State, Evaluated], State] = lambda state, evaluation: state


def run_loop(
    rhythm: Rhythm,
    plan: Plan,
    state: State,
    progress: Progress,
    hooks: Hooks,
    *,
    store: CheckpointStore,
    log: MetricsLog,
    console: RunConsole,
) -> bool:
    """Trains until the end of the plan.

    Args:
      rhythm: of lines, evaluations and checkpoints.
      plan: the phases of the run in steps.
      state: where to begin; its buffers are donated.
      progress: the same on the host; updated in place.
      hooks: the step, the data, the evaluation.
      store: where checkpoints go.
      log: the record.
      console: what the user sees.

    Returns:
      True when the run is complete, False after an interrupt; the state is saved either way.
    """
    loop = _Loop(rhythm, plan, state, progress, hooks, store, log, console)
    with InterruptWish() as wish:
        while progress.step < plan.num_steps and not loop.stopping:
            loop.run_phase(wish)
    store.wait()
    complete = progress.step >= plan.num_steps
    if not complete:
        loop.note("interrupted", f"interrupted: step {progress.step:,} is saved")
    return complete


class _Rollback(Exception):
    """The steps since a checkpoint are undone; not an error."""


class _Loop:
    """A run under way."""

    def __init__(
        self,
        rhythm: Rhythm,
        plan: Plan,
        state: State,
        progress: Progress,
        hooks: Hooks,
        store: CheckpointStore,
        log: MetricsLog,
        console: RunConsole,
    ):
        self.rhythm, self.plan, self.hooks = rhythm, plan, hooks
        self.state, self.progress = state, progress
        self.store, self.log, self.console = store, log, console
        self.pending: list[StepMetrics] = []  # On the device: not waited for until they are logged.
        self.newest: StepMetrics | None = None  # On the host.
        self.observed = progress.step  # Steps whose losses were looked at.
        self.newest_step = progress.step  # Steps that were begun.
        self.saved_step = progress.step if progress.step in store.steps() else None
        self.started: float | None = None  # After the first compilation.
        self.busy_seconds = self.work_done = 0.0  # Of the steps since, without pauses.
        self.compiled: dict[Any, CompiledStep] = {}  # By number of the phase and shapes.
        self.stop = SharedStop(MOST_STEPS_IN_FLIGHT)
        self.stopping = False  # After the step in hand, on all processes.

    def run_phase(self, wish: InterruptWish) -> None:
        """Runs to the end of the phase in hand, to an interrupt, or until the run goes back."""
        progress, plan = self.progress, self.plan
        phase = plan.phase_after(progress.step)
        if len(plan.phases) > 1:
            self.console.say(
                f"phase {phase.number + 1} of {len(plan.phases)}: steps {progress.step + 1:,} to "
                f"{phase.end_step:,}, {phase.batch_size:,} rows of {phase.sequence_length} tokens"
            )
        batches = self.hooks.batches(phase, progress)
        clock = Clock()
        with contextlib.closing(batches), contextlib.suppress(_Rollback):
            self._first_step(phase, batches, clock)
            self._look(phase, wish, clock)
            while progress.step < phase.end_step and not self.stopping:
                self._step(phase, batches, clock)
                clock.steps += 1
                self._look(phase, wish, clock)

    def _first_step(self, phase: Phase, batches: Generator[dict[str, Any]], clock: Clock) -> None:
        """The first step of a phase, for which it is compiled; the rate is counted without it."""
        if self.progress.step == phase.first_step:
            # Losses of other batches are no measure for these.
            self.progress.recent_losses, self.progress.in_spike = [], False
        self._step(phase, batches, clock)
        jax.block_until_ready(self.pending)
        self.started = self.started or time.monotonic()
        clock.restart()

    def _step(self, phase: Phase, batches: Generator[dict[str, Any]], clock: Clock) -> None:
        batch = next(batches)
        key = (phase.number, _shapes(batch))
        if key not in self.compiled:
            jax.block_until_ready(self.pending)  # The time of the steps before is theirs.
            with clock.paused():
                self.compiled[key] = compiled = self.hooks.compile(phase, self.state, batch)
            self.console.say(
                f"compiled the step{self.hooks.telling.compiled_for(batch)}: lowering "
                f"{compiled.lowering_seconds:.1f} s, compiling {compiled.compiling_seconds:.1f} s"
            )
        self.state, metrics = self.compiled[key].run(self.state, batch)
        self.pending.append(metrics)
        jax.block_until_ready(self.pending[:-MOST_STEPS_IN_FLIGHT][-1:])
        self.progress.step += 1
        seen = self.progress.rows_seen
        seen[phase.path] = seen.get(phase.path, 0) + phase.batch_size

    def _look(self, phase: Phase, wish: InterruptWish, clock: Clock) -> None:
        """What is due after a step: a log line, an evaluation, a checkpoint."""
        step, rhythm = self.progress.step, self.rhythm
        last = step == self.plan.num_steps
        if step % rhythm.log_every_steps == 0 or step == phase.end_step:
            self._log(phase, clock, last=last)
        evaluation = None
        every = rhythm.evaluate_every_steps
        if last or (every and step % every == 0):
            self._drain(phase)  # The time of the steps before is theirs.
            with clock.paused():
                evaluation = self._evaluate(phase)
        every = rhythm.probe_every_steps
        if self.hooks.probe is not None and every and (last or step % every == 0):
            self._drain(phase)
            with clock.paused():
                self._probe(self.hooks.probe)
        self.stopping = self.stop.due(step, wished=wish.requested)
        if step % rhythm.save_every_steps == 0 or last or self.stopping:
            self._drain(phase)
            with clock.paused():
                self.save(evaluation)

    def _drain(self, phase: Phase) -> None:
        """Waits for the steps in flight, and takes in their losses one by one."""
        progress, step = self.progress, self.progress.step
        self.newest_step = step
        for metrics in jax.device_get(self.pending):
            self.observed += 1
            progress.step = self.observed
            applied = float(metrics.applied) > 0
            if applied:
                progress.window.add(metrics)
            self.newest = metrics
            loss = mean(metrics.sums.predictions.loss, metrics.sums.predictions.count)
            try:
                spike = observe(self.rhythm.divergence, progress, loss, applied=applied)
            except MachineError as error:
                seen = self._examples_at(self.observed, phase)
                self.log.note("diverged", str(error), step=self.observed, examples_seen=seen)
                raise
            finally:
                progress.step = step
            if not applied:
                self._say(
                    "skipped",
                    f"step {self.observed:,}: the gradient is not finite, its update is left out",
                    self.observed,
                    self._examples_at(self.observed, phase),
                )
            if spike is not None:
                self._meet(spike, phase)
        self.pending.clear()

    def _meet(self, spike: Spike, phase: Phase) -> None:
        """Records a spike; goes back to the checkpoint before it, if that is asked for."""
        text = (
            f"the loss of step {spike.step:,} is {spike.loss_nats:.4f} nats, {spike.z_score:.1f} "
            f"robust standard deviations above the {spike.median_nats:.4f} of the steps before"
        )
        self.store.wait()
        may = self.progress.rollbacks < self.rhythm.divergence.max_rollbacks
        if not may or not self.store.steps():
            self._say("spike", text, spike.step, self._examples_at(spike.step, phase))
            return
        # The rows of the steps after the spike, which were under way, are not left out.
        rows_seen = dict(self.progress.rows_seen)
        rows_seen[phase.path] -= (self.progress.step - spike.step) * phase.batch_size
        self.pending.clear()
        del self.state  # The memory is needed for the one that is restored.
        restored = self.hooks.restore()
        self.stop.went_back()
        self.state = restored.state
        before = Progress.from_record(restored.step, restored.record["progress"])
        left_out = sum(rows_seen.values()) - before.examples_seen
        before.rows_seen, before.rollbacks = rows_seen, self.progress.rollbacks + 1
        for field in dataclasses.fields(Progress):  # In place: others hold it as well.
            setattr(self.progress, field.name, getattr(before, field.name))
        self.observed = self.saved_step = before.step
        self.log.rewind(before.step)
        # It belongs to the first step that is done anew: a run that is stopped before its next
        # checkpoint meets the same spike again, and writes the same line.
        self._say(
            ROLLED_BACK,
            f"{text}: back to step {before.step:,}; the {left_out:,} rows since are left out",
            before.step + 1,
            self.progress.examples_seen,
        )
        raise _Rollback

    def _log(self, phase: Phase, clock: Clock, *, last: bool) -> None:
        self._drain(phase)
        assert self.newest is not None and self.started is not None
        self.store.check()
        progress, now = self.progress, time.monotonic()
        entry = self._entry()
        if clock.steps:
            telling, seconds = self.hooks.telling, (now - clock.began) / clock.steps
            self.busy_seconds += seconds * clock.steps
            self.work_done += telling.work(phase) * clock.steps
            entry |= telling.rates(phase, seconds)
            line = telling.line(
                {"step": progress.step, **entry}, self.plan.num_steps, self.seconds_left()
            )
            self.console.progress(line, lasting=last)
        entry["seconds"] = round(now - self.started, 3)
        self.log.write("train", step=progress.step, examples_seen=progress.examples_seen, **entry)
        progress.window = Window()
        clock.restart()

    def seconds_left(self) -> float:
        """By the work of the phases to come: rows of 512 tokens take longer than rows of 128."""
        step, left = self.progress.step, 0.0
        for phase in self.plan.phases:
            steps = max(phase.end_step - max(phase.first_step, step), 0)
            left += steps * self.hooks.telling.work(phase)
        return left * self.busy_seconds / self.work_done

    def _entry(self) -> dict[str, Any]:
        assert self.newest is not None
        progress = self.progress
        entry: dict[str, Any] = {
            **self.hooks.telling.entry(progress.window),
            "learning_rate": float(self.newest.learning_rate),
            "gradient_norm": float(self.newest.gradient_norm),
        }
        if progress.updates_skipped:
            entry["updates_skipped"] = progress.updates_skipped
        return entry

    def _evaluate(self, phase: Phase) -> Evaluated | None:
        evaluation = self.hooks.evaluate(self.state, phase)
        if evaluation is None:
            return None
        step, seen = self.progress.step, self.progress.examples_seen
        self.console.say(f"step {step:,}: {evaluation.text()}")
        self.log.write("eval", step=step, examples_seen=seen, **evaluation.entry())
        self.state = self.hooks.adopt(self.state, evaluation)
        return evaluation

    def _probe(self, probe: Callable[[State], dict[str, float]]) -> None:
        scores, step = probe(self.state), self.progress.step
        text = ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items())
        self.console.say(f"step {step:,}: probe: {text}")
        values = {f"probe_{name}": value for name, value in scores.items()}
        self.log.write("eval", step=step, examples_seen=self.progress.examples_seen, **values)

    def save(self, evaluation: Evaluated | None = None) -> None:
        """Begins to write a checkpoint of this step, unless there is one."""
        if self.saved_step == self.progress.step:
            return
        if self.pending:
            try:
                self._drain(self.plan.phase_after(self.progress.step - 1))
            except _Rollback:
                return  # The checkpoint that it went back to is there.
        record = self.hooks.record(self.progress)
        if evaluation is not None:
            record["evaluation_loss_nats"] = evaluation.loss_nats
            # Losses on rows of another length are not compared with it.
            record["evaluated_on"] = self.plan.phase_after(self.progress.step - 1).path
        self.store.save(self.progress.step, self.state, record)
        self.saved_step = self.progress.step

    def note(self, event: str, message: str) -> None:
        """Records what happened at this step."""
        progress = self.progress
        self.log.note(event, message, step=progress.step, examples_seen=progress.examples_seen)

    def _say(self, event: str, message: str, step: int, examples_seen: int) -> None:
        """Tells and records what happened at `step`."""
        self.console.say(message)
        self.log.note(event, message, step=step, examples_seen=examples_seen)

    def _examples_at(self, step: int, phase: Phase) -> int:
        """Rows consumed up to a step of the phase in hand, whichever steps are under way by now."""
        return self.progress.examples_seen - (self.newest_step - step) * phase.batch_size


def _shapes(batch: Any) -> tuple[Any, ...]:
    """What a program is compiled for."""
    return tuple(getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(batch))
