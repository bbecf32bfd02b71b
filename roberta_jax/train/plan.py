"""What a run does at which step: phases, their batches, and the schedules of the learning rate.

Durations become steps here, once, when the data are known; everything after counts in steps.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

from roberta_jax.config import Duration, PhaseConfig, PretrainConfig
from roberta_jax.errors import UserError
from roberta_jax.optim.schedule import Stretch


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Steps whose batches are alike.

    Attributes:
      number: from 0.
      first_step: updates before it.
      end_step: updates after it.
      path: its dataset.
      batch_size: rows of an update.
      num_microbatches: parts of a batch; 0: to be chosen.
      sequence_length: tokens per row.
      num_rows: rows of the dataset.
    """

    number: int
    first_step: int
    end_step: int
    path: str
    batch_size: int
    num_microbatches: int
    sequence_length: int
    num_rows: int

    @property
    def num_steps(self) -> int:
        """Updates in it."""
        return self.end_step - self.first_step

    @property
    def tokens_per_step(self) -> int:
        """Places in the rows of an update, padding included."""
        return self.batch_size * self.sequence_length

    @property
    def epochs(self) -> float:
        """Passes over its dataset."""
        return self.num_steps * self.batch_size / self.num_rows

    def amount_per_step(self, unit: str) -> float:
        """What one update adds to a duration in steps, tokens or epochs."""
        return {
            "steps": 1.0,
            "tokens": float(self.tokens_per_step),
            "epochs": self.batch_size / self.num_rows,
        }[unit]


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """All phases of a run, and the stretches over which its schedules go."""

    phases: tuple[Phase, ...]
    stretches: tuple[Stretch, ...]

    @property
    def num_steps(self) -> int:
        """Updates of the run."""
        return self.phases[-1].end_step

    @property
    def num_rows(self) -> int:
        """Rows that the run sees."""
        return sum(phase.num_steps * phase.batch_size for phase in self.phases)

    @property
    def num_tokens(self) -> int:
        """Places in those rows, padding included."""
        return sum(phase.num_steps * phase.tokens_per_step for phase in self.phases)

    def phase_after(self, step: int) -> Phase:
        """The phase of the update that follows `step` updates; the last one at the end."""
        return next((phase for phase in self.phases if step < phase.end_step), self.phases[-1])


def make_plan(config: PretrainConfig, num_rows: Callable[[str], int]) -> Plan:
    """Turns the durations of a config into steps.

    Args:
      config: validated.
      num_rows: rows of the dataset at a path.

    Raises:
      UserError: the phases don't add up, or a warm-up is longer than what it is part of.
    """
    given = config.phases or (PhaseConfig(duration="100%"),)
    shapes = [_shape(config, phase, number, num_rows) for number, phase in enumerate(given)]
    durations = [
        Duration.parse(phase.duration, f"phases[{number}].duration")
        for number, phase in enumerate(given)
    ]
    steps = _steps(config, shapes, durations)
    phases, first = [], 0
    for number, (shape, count) in enumerate(zip(shapes, steps, strict=True)):
        if count < 1:
            raise UserError(
                f"config.phases[{number}].duration is {given[number].duration!r}, which is less "
                "than one step; every phase needs one. Make it longer, or leave the phase out."
            )
        phases.append(dataclasses.replace(shape, first_step=first, end_step=first + count))
        first += count
    return Plan(tuple(phases), tuple(_stretches(config, given, phases)))


def _shape(
    config: PretrainConfig, phase: PhaseConfig, number: int, num_rows: Callable[[str], int]
) -> Phase:
    path = phase.path or config.data.path
    batch_size = phase.batch_size or config.train.batch_size
    parts = phase.num_microbatches or config.train.num_microbatches
    if parts and batch_size % parts:
        raise UserError(
            f"config.phases[{number}] has batches of {batch_size} rows and {parts} microbatches, "
            "which do not divide them. Set its batch_size or num_microbatches, or "
            "train.num_microbatches=0 to let them be chosen."
        )
    return Phase(
        number=number,
        first_step=0,
        end_step=0,
        path=path,
        batch_size=batch_size,
        num_microbatches=parts,
        sequence_length=phase.sequence_length or config.data.sequence_length,
        num_rows=num_rows(path),
    )


def _steps(
    config: PretrainConfig, shapes: Sequence[Phase], durations: Sequence[Duration]
) -> list[int]:
    """Steps of every phase."""
    listed = " + ".join(phase.duration for phase in config.phases)
    in_percent = [duration.unit == "%" for duration in durations]
    if all(in_percent):
        shares = [duration.number / 100 for duration in durations]
        if not math.isclose(sum(shares), 1.0, abs_tol=1e-9):
            raise UserError(
                f"The durations of config.phases, {listed}, add up to {100 * sum(shares):g}%; they "
                "must add up to 100%."
            )
        if not config.train.duration:
            raise UserError(
                f"The durations of config.phases are {listed} of a run without a length. Set "
                'config.train.duration, such as "1000000 steps".'
            )
        whole = Duration.parse(config.train.duration, "train.duration")
        per_step = sum(
            share * shape.amount_per_step(whole.unit)
            for share, shape in zip(shares, shapes, strict=True)
        )
        total = _ceil(whole.number / per_step)
        if total < 1:
            raise UserError(
                f"config.train.duration is {config.train.duration!r}, which is no step; it must be "
                "at least one."
            )
        ends = [round(total * sum(shares[: number + 1])) for number in range(len(shares))]
        return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    if any(in_percent):
        raise UserError(
            f"The durations of config.phases are {listed}; they must all be in %, of "
            "config.train.duration, or none of them."
        )
    steps = [
        _ceil(duration.number / shape.amount_per_step(duration.unit))
        for duration, shape in zip(durations, shapes, strict=True)
    ]
    if config.train.duration:
        whole = Duration.parse(config.train.duration, "train.duration")
        amounts = [shape.amount_per_step(whole.unit) for shape in shapes]
        given = sum(count * amount for count, amount in zip(steps, amounts, strict=True))
        # Every phase is rounded up to whole steps.
        slack = 0.0 if whole.unit == "steps" else sum(amounts)
        if abs(given - whole.number) > slack:
            raise UserError(
                f"The durations of config.phases, {listed}, are {sum(steps):,} steps together, and "
                f"config.train.duration is {config.train.duration!r}. Set it to "
                f'"{sum(steps)} steps", or to "" to take the sum of the phases.'
            )
    return steps


def _ceil(steps: float) -> int:
    """The next whole number of steps; an excess of rounding is none."""
    return math.ceil(steps - 1e-9 * max(steps, 1.0))


def _stretches(
    config: PretrainConfig, given: Sequence[PhaseConfig], phases: Sequence[Phase]
) -> list[Stretch]:
    """One for the run, or from every phase that begins a schedule of its own to the next one."""
    begins = [number for number, phase in enumerate(given) if number == 0 or phase.warmup]
    stretches = []
    for begin, end in zip(begins, [*begins[1:], len(phases)], strict=True):
        covered, own = phases[begin:end], bool(given[begin].warmup)
        name = f"phases[{begin}].warmup" if own else "schedule.warmup"
        text = given[begin].warmup if own else config.schedule.warmup
        warmup = _steps_of(Duration.parse(text, name), covered)
        length = covered[-1].end_step - covered[0].first_step
        if warmup >= length:
            raise UserError(
                f"config.{name} is {text!r}, {warmup:,} of the {length:,} steps that the schedule "
                "has; the warm-up must be shorter."
            )
        decay = 0
        if config.schedule.kind == "warmup_stable_decay":
            last = Duration.parse(config.schedule.decay, "schedule.decay")
            decay = _steps_of(last, covered[::-1])
            if warmup + decay > length:
                raise UserError(
                    f"config.{name} is {text!r} and config.schedule.decay is "
                    f"{config.schedule.decay!r}: {warmup:,} and {decay:,} steps do not fit into "
                    f"the {length:,} that the schedule has. Shorten one of them."
                )
        stretches.append(
            Stretch(
                first_step=covered[0].first_step,
                end_step=covered[-1].end_step,
                peak_learning_rate=(
                    given[begin].peak_learning_rate or config.optimizer.peak_learning_rate
                ),
                warmup_steps=warmup,
                decay_steps=decay,
            )
        )
    return stretches


def _steps_of(duration: Duration, phases: Sequence[Phase]) -> int:
    """Steps that a duration takes from the beginning of `phases` on, in the order given."""
    if duration.unit == "%":
        return round(duration.number / 100 * sum(phase.num_steps for phase in phases))
    left, steps = duration.number, 0
    for phase in phases:
        amount = phase.amount_per_step(duration.unit)
        if left <= amount * phase.num_steps or phase is phases[-1]:
            return steps + _ceil(left / amount)
        left -= amount * phase.num_steps
        steps += phase.num_steps
    raise AssertionError("a run has phases")
