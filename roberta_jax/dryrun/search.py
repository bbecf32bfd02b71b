"""Tries meshes, rematerialization and microbatches, and ranks those that fit."""

import dataclasses
import math
from collections.abc import Callable, Iterator

from roberta_jax.config import MeshConfig, PretrainConfig
from roberta_jax.dryrun.costs import run_seconds
from roberta_jax.dryrun.result import Result
from roberta_jax.dryrun.topologies import Topology
from roberta_jax.dryrun.verdict import days, gib
from roberta_jax.errors import MachineError, UserError

Compile = Callable[[PretrainConfig, Topology, float], Result]

POLICIES = ("none", "dots", "full")


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
    say: Callable[[str], None],
) -> list[Found]:
    """What fits, best first.

    For every mesh and policy, the least number of microbatches that fits: more of them cost time
    and save only memory.

    Args:
      config: the run.
      topology: its devices.
      memory_bytes: of a device; infinity is no limit.
      compile_for: compiles a config for a topology and a memory.
      say: is told of every try.
    """
    found = []
    for mesh in meshes(topology.num_devices):
        for policy in POLICIES:
            one = dataclasses.replace(
                config,
                mesh=dataclasses.replace(mesh, granule=config.mesh.granule),
                encoder=dataclasses.replace(config.encoder, rematerialization=policy),
            )
            name = f"data {mesh.data} x fsdp {mesh.fsdp} x tensor {mesh.tensor}, {policy}"
            try:
                result = _fewest_microbatches(name, one, topology, memory_bytes, compile_for, say)
            except UserError as error:
                say(f"{name}: cannot be: {error}")
                if isinstance(error, MachineError):
                    continue
                break  # The mesh itself is refused, whatever the policy.
            if result is not None:
                found.append(Found(_flags(mesh, policy, result), result))
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
    say: Callable[[str], None],
) -> Result | None:
    def attempt(parts: int) -> Result:
        result = compile_for(_with_microbatches(config, parts), topology, memory_bytes)
        peak = max(phase.peak_bytes() for phase in result.phases)
        verdict = "fits" if result.fits(memory_bytes) else "does not fit"
        taken = max(phase.num_microbatches for phase in result.phases)
        say(f"{name}, {taken} microbatches: {gib(peak)} GiB, {verdict}")
        return result

    result = attempt(0)  # As many as a run would choose.
    parts = max(phase.num_microbatches for phase in result.phases)
    shards = config.mesh.data * config.mesh.fsdp
    rows = math.gcd(*(phase.batch_size for phase in result.phases)) // shards
    if result.fits(memory_bytes):
        while parts > 1 and memory_bytes != math.inf:
            fewer = max(each for each in _divisors(rows) if each < parts)
            smaller = attempt(fewer)
            if not smaller.fits(memory_bytes):
                break
            result, parts = smaller, fewer
        return result
    for more in _divisors(rows):
        if more < 2 * parts:
            continue  # A few per cent less memory are not worth a minute of compiling.
        result, parts = attempt(more), more
        if result.fits(memory_bytes):
            return result
    return None


def _divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]


def _with_microbatches(config: PretrainConfig, parts: int) -> PretrainConfig:
    phases = tuple(dataclasses.replace(phase, num_microbatches=0) for phase in config.phases)
    train = dataclasses.replace(config.train, num_microbatches=parts)
    return dataclasses.replace(config, train=train, phases=phases)


def _flags(mesh: MeshConfig, policy: str, result: Result) -> str:
    parts = max(phase.num_microbatches for phase in result.phases)
    return (
        f"--config.mesh.data={mesh.data} --config.mesh.fsdp={mesh.fsdp} "
        f"--config.mesh.tensor={mesh.tensor} --config.encoder.rematerialization={policy} "
        f"--config.train.num_microbatches={parts}"
    )
