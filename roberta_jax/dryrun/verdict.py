"""A result as lines to read, and what would make a run fit that does not."""

import math
from collections.abc import Iterator

from roberta_jax.dryrun.chips import CHIPS, GIB
from roberta_jax.dryrun.costs import SLOW_PEAK_SHARE, run_seconds, step_time
from roberta_jax.dryrun.memory import memory_parts
from roberta_jax.dryrun.result import PhaseResult, Result
from roberta_jax.dryrun.topologies import Topology
from roberta_jax.train.console import duration

_LABEL = 13

Row = tuple[str, str]  # A label and what belongs to it.


def lines(result: Result, topology: Topology, memory_bytes: float) -> Iterator[str]:
    """All that was found.

    Args:
      result: of the dry run.
      topology: its devices.
      memory_bytes: of one of them; infinity is no limit.
    """
    for label, text in _rows(result, topology, memory_bytes):
        yield f"{label:<{_LABEL}}{text}".rstrip()


def run_rows(result: Result, topology: Topology, memory_bytes: float) -> Iterator[Row]:
    """What is run, and where."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in result.mesh.items())
    each = "" if memory_bytes == math.inf else f" of {gib(memory_bytes)} GiB each"
    yield "topology", f"{topology.name}: {topology.num_devices} devices{each}; mesh {mesh}"
    assumed = ", vocabulary assumed (no data.path)" if result.assumed_vocabulary else ""
    yield (
        "model",
        f"{result.num_params:,} parameters, rematerialization {result.rematerialization}{assumed}",
    )


def recipe_rows(result: Result, topology: Topology) -> Iterator[Row]:
    """How long all steps take, where that is known."""
    if topology.chip is None:
        yield "time", "not told: a CPU has no published peak"
    elif seconds := run_seconds(result, topology.num_devices, topology.chip):
        steps = sum(phase.num_steps for phase in result.phases)
        yield (
            "recipe",
            f"{steps:,} steps: {days(seconds[0])} to {days(seconds[1])}, if nothing stops",
        )


def step_row(phase: PhaseResult) -> Row:
    """The batch of a phase, and how long the compiler worked."""
    if phase.state_is_too_large:
        ending = "not compiled"
    else:
        compiling = "compiled in" if phase.compiled else "given up after"
        ending = f"{compiling} {duration(phase.seconds)}"
    return (
        "step",
        f"{phase.batch_size:,} rows of {phase.sequence_length:,} tokens, microbatches: "
        f"{phase.num_microbatches:,}; {ending}",
    )


def work_rows(phase: PhaseResult, topology: Topology) -> Iterator[Row]:
    """Arithmetic and traffic of a step."""
    devices, chip = topology.num_devices, topology.chip
    yield (
        "arithmetic",
        f"{phase.model_flops:.3g} FLOPs of the model, {phase.computed_flops:.3g} computed "
        f"(recomputation too): {phase.computed_flops / devices:.3g} a device",
    )
    if phase.compiled is None:
        return
    moved = phase.compiled.memory_traffic_bytes
    intensity = phase.computed_flops / devices / max(moved, 1)
    balance = ""
    if chip is not None:
        ridge = chip.peak_flops / chip.memory_bytes_per_second
        balance = f" ({chip.name} needs {ridge:.0f} to be busy with arithmetic)"
    yield (
        "traffic",
        f"{bytes_text(moved)} from and to memory a device: {intensity:.0f} FLOPs a byte{balance}",
    )


def time_rows(phase: PhaseResult, topology: Topology) -> Iterator[Row]:
    """The range of a step's time, and where it comes from."""
    devices, chip = topology.num_devices, topology.chip
    time = chip and step_time(phase, devices, chip)
    if not time or not chip:
        return
    share = phase.model_flops / devices / chip.peak_flops
    yield (
        "time",
        f"{time.fastest:.3g} to {time.slowest:.3g} s a step: {share / time.fastest:.0%} to "
        f"{share / time.slowest:.0%} of the peak for the model",
    )
    yield (
        "",
        f"at published rates: products {time.matmul:.3g} s, memory {time.memory:.3g} s, links "
        f"{time.links:.3g} s; fastest: each hides the others; slowest: none does, products at "
        f"{SLOW_PEAK_SHARE:.0%} of the peak, one link at a time",
    )


def advice(result: Result, topology: Topology, memory_bytes: float) -> str:
    """The paragraph for a run that does not fit: how much is missing, and what helps."""
    number, phase = max(enumerate(result.phases), key=lambda numbered: numbered[1].peak_bytes())
    needed = phase.peak_bytes()
    which = f" in phase {number + 1}" if len(result.phases) > 1 else ""
    least, why = ("at least ", " for its state alone") if phase.state_is_too_large else ("", "")
    tries = list(_remedies(result, phase, topology, memory_bytes))
    return (
        f"It does not fit{which}: a device of {topology.name} would need {least}{gib(needed)} GiB"
        f"{why} and has {gib(memory_bytes)} GiB; {least}{gib(needed - memory_bytes)} GiB are "
        f"missing. What helps: {'; '.join(tries)}. --search tries them."
    )


def _remedies(
    result: Result, phase: PhaseResult, topology: Topology, memory_bytes: float
) -> Iterator[str]:
    needed = phase.peak_bytes()
    for each in result.phases:
        if not each.fits(memory_bytes):
            yield from _more_microbatches(each, result, memory_bytes)
    if result.rematerialization != "full" and not phase.state_is_too_large:
        yield "--config.encoder.rematerialization=full (about a third more arithmetic)"
    yield from _more_fsdp(phase, result, memory_bytes)
    larger = [
        chip.name
        for chip in CHIPS.values()
        if topology.chip is not None and chip.memory_bytes > max(needed, memory_bytes)
    ]
    if larger:
        yield f"chips with more memory ({', '.join(larger)})"
    yield "a smaller batch or shorter rows"


def _more_microbatches(phase: PhaseResult, result: Result, memory_bytes: float) -> Iterator[str]:
    fixed = phase.state.kept + phase.state.gradient
    left, activations = memory_bytes - fixed, phase.peak_bytes() - fixed
    if left <= 0 or activations <= 0:
        return
    rows = phase.batch_size // (result.mesh["data"] * result.mesh["fsdp"])
    # Activations grow with the rows of a microbatch; what else there is does not.
    wanted = phase.num_microbatches * activations / left
    for parts in range(phase.num_microbatches + 1, rows + 1):
        if rows % parts == 0 and parts >= wanted:
            share = activations * phase.num_microbatches / parts
            yield (
                f"--config.{phase.microbatches_field}={parts} instead of "
                f"{phase.num_microbatches} (the same gradient; activations of about {gib(share)} "
                f"instead of {gib(activations)} GiB)"
            )
            return


def _more_fsdp(phase: PhaseResult, result: Result, memory_bytes: float) -> Iterator[str]:
    state, before = phase.state, result.mesh["fsdp"]
    # The optimizer state is split over all of them anyway.
    split = state.parameters + (0 if phase.state_is_too_large else state.gradient)
    devices = before * result.mesh["data"]
    larger = [size for size in range(before + 1, devices + 1) if devices % size == 0]
    enough = [
        size for size in larger if phase.peak_bytes() - split * (1 - before / size) <= memory_bytes
    ]
    if larger:
        size = min(enough or larger[-1:])
        alone = "" if enough else ", not enough alone"
        what = "weights" if phase.state_is_too_large else "weights and gradient"
        yield (
            f"--config.mesh.fsdp={size} --config.mesh.data=-1 ({what} over {size} "
            f"devices: about {gib(split * (1 - before / size))} GiB less{alone})"
        )


def _rows(result: Result, topology: Topology, memory_bytes: float) -> Iterator[Row]:
    yield from run_rows(result, topology, memory_bytes)
    for number, phase in enumerate(result.phases):
        if len(result.phases) > 1:
            yield f"phase {number + 1}", ""
        yield step_row(phase)
        yield from _memory_rows(phase, memory_bytes)
        yield from work_rows(phase, topology)
        yield from _collective_rows(phase)
        yield from time_rows(phase, topology)
    yield from recipe_rows(result, topology)


def _memory_rows(phase: PhaseResult, memory_bytes: float) -> Iterator[Row]:
    yield "memory", "GiB of a device"
    for name, count in memory_parts(phase):
        yield "", f"{gib(count):>8}  {name}"
    limit = "" if memory_bytes == math.inf else f" of {gib(memory_bytes)}"
    yield "", f"{gib(phase.peak_bytes()):>8}  {peak_name(phase)}{limit}"


def _collective_rows(phase: PhaseResult) -> Iterator[Row]:
    if phase.compiled is None:
        return
    for kind, each in sorted(phase.compiled.collectives.items()):
        yield (
            "collectives",
            f"{each.count:,} {kind} of {bytes_text(each.payload_bytes)} in all, "
            f"{bytes_text(each.sent_bytes)} sent by a device",
        )
    if not phase.compiled.collectives:
        yield "collectives", "none"


def peak_name(phase: PhaseResult) -> str:
    """What `phase.peak_bytes()` is."""
    if phase.state_is_too_large:
        return "needed at least"
    return "needed" if phase.compiled is None else "peak"


def gib(count: float) -> str:
    """Bytes in GiB, with three digits that matter."""
    value = count / GIB
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def days(seconds: float) -> str:
    """Seconds in days, or a shorter unit where that says more."""
    return f"{seconds / 86400:.1f} days" if seconds >= 2 * 86400 else duration(seconds)


def bytes_text(count: float) -> str:
    """Bytes in the largest unit that leaves at least 1."""
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB" if count < 1000 else f"{count:,.0f} GB"
