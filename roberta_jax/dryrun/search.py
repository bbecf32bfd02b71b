"""Tries meshes, rematerialization and microbatches, and ranks those that fit."""

import dataclasses
import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from roberta_jax.config import MeshConfig, PretrainConfig
from roberta_jax.dryrun.costs import run_seconds
from roberta_jax.dryrun.result import PhaseResult, Result
from roberta_jax.dryrun.topologies import Topology
from roberta_jax.dryrun.verdict import days, gib
from roberta_jax.errors import MachineError, UserError
from roberta_jax.train.console import duration

Compile = Callable[[PretrainConfig, Topology, float], Result]
Say = Callable[[str], None]

# The least memory first: where that doesn't fit, the others needn't be tried.
POLICIES = ("full", "dots", "none")


@dataclasses.dataclass(frozen=True)
class Found:
    """Settings that fit.

    Attributes:
      flags: which give them.
      result: of their dry run.
    """

    flags: str
    result: Result


def search(
    config: PretrainConfig,
    topology: Topology,
    memory_bytes: float,
    *,
    compile_for: Compile,
    say: Say,
) -> Iterator[Found]:
    """Settings that fit, as they are found.

    For every mesh and policy, the least number of microbatches that fits: more of them cost time
    and save only memory. What cannot fit by what is known already is not compiled.

    Args:
      config: the run.
      topology: its devices.
      memory_bytes: of a device; infinity is no limit.
      compile_for: compiles a config for a topology and a memory.
      say: is told of every try.
    """
    tried = meshes(topology.num_devices)
    total = len(tried) * len(POLICIES)
    for row, mesh in enumerate(tried):
        for column, policy in enumerate(POLICIES):
            one = dataclasses.replace(
                config,
                mesh=dataclasses.replace(mesh, granule=config.mesh.granule),
                encoder=dataclasses.replace(config.encoder, rematerialization=policy),
            )
            name = (
                f"{row * len(POLICIES) + column + 1} of {total}: data {mesh.data} x fsdp "
                f"{mesh.fsdp} x tensor {mesh.tensor}, rematerialization {policy}"
            )
            try:
                result = _fewest_microbatches(name, one, topology, memory_bytes, compile_for, say)
            except UserError as error:
                say(f"{name}: cannot be: {error}")
                if isinstance(error, MachineError):
                    continue
                break  # The mesh itself is refused, whatever the policy.
            if result is None:
                say(f"{name}: no number of microbatches would fit, nor would less of it")
                break
            yield Found(_flags(mesh, policy, result), result)


def best_first(found: Iterable[Found], topology: Topology) -> list[Found]:
    """Sorted by `rank`."""
    return sorted(found, key=lambda each: rank(each.result, topology))


def rank(result: Result, topology: Topology) -> tuple[float, ...]:
    """A key by which the better result comes first.

    On chips, the slow end of the time. On a CPU, which has no published rates: the arithmetic, then
    what is sent, then what memory moves.
    """
    if topology.chip is not None:
        seconds = run_seconds(result, topology.num_devices, topology.chip)
        assert seconds is not None, "only what fits is ranked"
        return (seconds[1], seconds[0])
    arithmetic = sent = moved = 0.0
    for phase in result.phases:
        assert phase.compiled is not None, "only what fits is ranked"
        arithmetic += phase.num_steps * phase.computed_flops
        sent += phase.num_steps * phase.compiled.sent_bytes
        moved += phase.num_steps * phase.compiled.memory_traffic_bytes
    return (arithmetic, sent, moved)


def meshes(num_devices: int) -> list[MeshConfig]:
    """Ways to use so many devices that are worth a try.

    All for the rows; weights split over some or all of them; a model split over two.
    """
    middle = 2 ** (num_devices.bit_length() // 2)
    shapes = [(num_devices, 1, 1)]
    shapes += [
        (num_devices // fsdp, fsdp, 1)
        for fsdp in sorted({middle, num_devices})
        if fsdp > 1 and num_devices % fsdp == 0
    ]
    if num_devices % 2 == 0:
        shapes.append((num_devices // 2, 1, 2))
    return [MeshConfig(data=data, fsdp=fsdp, tensor=tensor) for data, fsdp, tensor in shapes]


def found_lines(found: list[Found], topology: Topology) -> Iterator[str]:
    """A table of what fits, in the order given."""
    if not found:
        yield "Nothing that was tried fits. Take more devices, or larger ones."
        return
    yield "What fits, best first:"
    for place, each in enumerate(found, 1):
        peak = max(phase.peak_bytes() for phase in each.result.phases)
        time = ""
        if topology.chip is not None:
            seconds = run_seconds(each.result, topology.num_devices, topology.chip)
            assert seconds is not None, "only what fits is listed"
            time = f", {days(seconds[0])} to {days(seconds[1])}"
        yield f"{place:>3}. peak {gib(peak)} GiB{time}: {each.flags}"


def _fewest_microbatches(
    name: str,
    config: PretrainConfig,
    topology: Topology,
    memory_bytes: float,
    compile_for: Compile,
    say: Say,
) -> Result | None:
    wanted = [0] * max(len(config.phases), 1)  # As many as a run would choose.
    known: list[dict[int, PhaseResult]] = [{} for _ in wanted]
    shards = config.mesh.data * config.mesh.fsdp
    while True:
        say(f"{name}: compiling ...")
        result = compile_for(_with_microbatches(config, wanted), topology, memory_bytes)
        say(f"{name}, {_told(result, memory_bytes)}")
        for phase, others, parts in zip(result.phases, known, wanted, strict=True):
            assert parts in (0, phase.num_microbatches), "it was asked for so many"
            others[phase.num_microbatches] = phase
        if memory_bytes == math.inf:
            return result
        following = [
            next_microbatches(phases, result.phases[number].batch_size // shards, memory_bytes)
            for number, phases in enumerate(known)
        ]
        wanted = [parts for parts in following if parts is not None]
        if len(wanted) < len(known):
            return None
        if all(parts in phases for parts, phases in zip(wanted, known, strict=True)):
            phases = [others[parts] for parts, others in zip(wanted, known, strict=True)]
            return dataclasses.replace(result, phases=phases)


def next_microbatches(known: dict[int, PhaseResult], rows: int, memory_bytes: float) -> int | None:
    """The number of microbatches to try next: one that is known if that is the answer.

    None where no number can fit. What a device needs is taken for `constant + share / number`;
    from one result alone, the constant is at least what the state and the gradient take.

    Args:
      known: results by their number of microbatches; at least one.
      rows: of a batch, on one device.
      memory_bytes: of a device.
    """
    if any(phase.state_is_too_large for phase in known.values()):
        return None
    enough = min((parts for parts in known if known[parts].fits(memory_bytes)), default=0)
    too_few = max((parts for parts in known if not known[parts].fits(memory_bytes)), default=0)
    between = [parts for parts in range(too_few + 1, enough or rows + 1) if rows % parts == 0]
    constant, share = _line(known)
    promising = [parts for parts in between if constant + share / parts <= memory_bytes]
    if promising:
        return promising[0]
    if enough and between and len(known) == 1:
        return between[-1]  # The constant may be larger, and the share smaller.
    return enough or None


def _line(known: dict[int, PhaseResult]) -> tuple[float, float]:
    """The constant and the share of what is needed, from the two results of fewest parts."""
    few, *more = sorted(known)
    phase = known[few]
    if not more:
        constant = phase.state.kept + phase.state.gradient
        return constant, (phase.peak_bytes() - constant) * few
    lower, upper = phase.peak_bytes(), known[more[0]].peak_bytes()
    share = (lower - upper) / (1 / few - 1 / more[0])
    return lower - share / few, share


def _told(result: Result, memory_bytes: float) -> str:
    """What came of a try, in some words."""
    parts = " and ".join(str(phase.num_microbatches) for phase in result.phases)
    peak = max(phase.peak_bytes() for phase in result.phases)
    least = "at least " if any(phase.state_is_too_large for phase in result.phases) else ""
    verdict = "fits" if result.fits(memory_bytes) else "does not fit"
    seconds = duration(sum(phase.seconds for phase in result.phases))
    return f"microbatches {parts}: {least}{gib(peak)} GiB, {verdict} ({seconds})"


def _with_microbatches(config: PretrainConfig, parts: Sequence[int]) -> PretrainConfig:
    """The config with so many in its phases, or, where it has none, in the run."""
    phases = tuple(
        dataclasses.replace(phase, num_microbatches=number)
        for phase, number in zip(config.phases, parts, strict=False)
    )
    train = dataclasses.replace(config.train, num_microbatches=0 if phases else parts[0])
    return dataclasses.replace(config, train=train, phases=phases)


def _flags(mesh: MeshConfig, policy: str, result: Result) -> str:
    values: dict[str, str | int] = {
        "mesh.data": mesh.data,
        "mesh.fsdp": mesh.fsdp,
        "mesh.tensor": mesh.tensor,
        "encoder.rematerialization": policy,
    }
    values |= {phase.microbatches_field: phase.num_microbatches for phase in result.phases}
    # A shell would read the brackets of `phases[0]`.
    return " ".join(shlex.quote(f"--config.{name}={value}") for name, value in values.items())
