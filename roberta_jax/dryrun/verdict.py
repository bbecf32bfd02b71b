"""A result as lines to read, and what would make a run fit that does not."""

import math
from collections.abc import Iterator

from roberta_jax.dryrun.chips import CHIPS, GIB
from roberta_jax.dryrun.costs import SLOW_PEAK_SHARE, run_seconds, step_time
from roberta_jax.dryrun.result import Compiled, PhaseResult, Result
from roberta_jax.dryrun.topologies import Topology
from roberta_jax.train.console import duration

_LABEL = 13


def lines(result: Result, topology: Topology, memory_bytes: float) -> Iterator[str]:
    """All that was found.

    Args:
      result: of the dry run.
      topology: its devices.
      memory_bytes: of one of them; infinity is no limit.
    """
    mesh = " x ".join(f"{axis} {size}" for axis, size in result.mesh.items())
    each = "" if memory_bytes == math.inf else f" of {gib(memory_bytes)} GiB each"
    yield _line("topology", f"{topology.name}: {topology.num_devices} devices{each}; mesh {mesh}")
    assumed = ", vocabulary assumed (no data.path)" if result.assumed_vocabulary else ""
    yield _line(
        "model",
        f"{result.num_params:,} parameters, rematerialization {result.rematerialization}{assumed}",
    )
    for number, phase in enumerate(result.phases):
        if len(result.phases) > 1:
            yield _line(f"phase {number + 1}", "")
        yield from _phase_lines(result, phase, topology, memory_bytes)
    if topology.chip is None:
        yield _line("time", "not told: a CPU has no published peak")
    elif seconds := run_seconds(result, topology.num_devices, topology.chip):
        steps = sum(phase.num_steps for phase in result.phases)
        yield _line(
            "recipe", f"{steps:,} steps: {days(seconds[0])} to {days(seconds[1])}, if nothing stops"
        )


def advice(result: Result, topology: Topology, memory_bytes: float) -> str:
    """The paragraph for a run that does not fit: how much is missing, and what helps."""
    number, phase = max(enumerate(result.phases), key=lambda numbered: numbered[1].peak_bytes())
    needed = phase.peak_bytes()
    which = f" in phase {number + 1}" if len(result.phases) > 1 else ""
    tries = list(_remedies(result, phase, topology, memory_bytes))
    return (
        f"It does not fit{which}: a device of {topology.name} would need {gib(needed)} GiB and has "
        f"{gib(memory_bytes)} GiB; {gib(needed - memory_bytes)} GiB are missing. What helps: "
        f"{'; '.join(tries)}. --search tries them."
    )


def _remedies(
    result: Result, phase: PhaseResult, topology: Topology, memory_bytes: float
) -> Iterator[str]:
    state, needed = phase.state, phase.peak_bytes()
    fixed = state.kept + state.gradient
    left, activations = memory_bytes - fixed, max(needed - fixed, 1)
    rows = phase.batch_size // (result.mesh["data"] * result.mesh["fsdp"])
    if left > 0:
        # Activations grow with the rows of a microbatch; what else there is does not.
        wanted = phase.num_microbatches * activations / left
        for parts in range(phase.num_microbatches + 1, rows + 1):
            if rows % parts == 0 and parts >= wanted:
                share = activations * phase.num_microbatches / parts
                yield (
                    f"--config.train.num_microbatches={parts} instead of {phase.num_microbatches} "
                    f"(the same gradient; activations of about {gib(share)} instead of "
                    f"{gib(activations)} GiB)"
                )
                break
    if result.rematerialization != "full":
        yield "--config.encoder.rematerialization=full (about a third more arithmetic)"
    if result.mesh["fsdp"] == 1 and topology.num_devices > 1:
        parts = min(8, topology.num_devices)
        yield (
            f"--config.mesh.fsdp={parts} --config.mesh.data=-1 (weights and gradient, "
            f"{gib(state.parameters + state.gradient)} GiB, over {parts} devices)"
        )
    larger = [
        chip.name
        for chip in CHIPS.values()
        if topology.chip is not None and chip.memory_bytes > max(needed, memory_bytes)
    ]
    if larger:
        yield f"chips with more memory ({', '.join(larger)})"
    yield "a smaller batch or shorter rows"


def _phase_lines(
    result: Result, phase: PhaseResult, topology: Topology, memory_bytes: float
) -> Iterator[str]:
    yield _line(
        "step",
        f"{phase.batch_size:,} rows of {phase.sequence_length:,} tokens, microbatches: "
        f"{phase.num_microbatches:,}; compiled in {duration(phase.seconds)}",
    )
    yield from _memory_lines(phase, memory_bytes)
    compiled, devices = phase.compiled, topology.num_devices
    yield _line(
        "arithmetic",
        f"{phase.model_flops:.3g} FLOPs of the model, {phase.computed_flops:.3g} computed "
        f"(recomputation too): {phase.computed_flops / devices:.3g} a device",
    )
    if compiled is None:
        return
    yield from _traffic_lines(phase, compiled, topology)
    time = topology.chip and step_time(phase, devices, topology.chip)
    if time and topology.chip:
        share = phase.model_flops / devices / topology.chip.peak_flops
        yield _line(
            "time",
            f"{time.fastest:.3g} to {time.slowest:.3g} s a step: {share / time.fastest:.0%} to "
            f"{share / time.slowest:.0%} of the peak for the model",
        )
        yield _line(
            "",
            f"at published rates: products {time.matmul:.3g} s, memory {time.memory:.3g} s, links "
            f"{time.links:.3g} s; fastest: each hides the others; slowest: none does, products at "
            f"{SLOW_PEAK_SHARE:.0%} of the peak, one link at a time",
        )


def _memory_lines(phase: PhaseResult, memory_bytes: float) -> Iterator[str]:
    state, compiled = phase.state, phase.compiled
    yield _line("memory", "GiB of a device")
    yield _line("", f"{gib(state.parameters):>8}  parameters")
    yield _line("", f"{gib(state.optimizer):>8}  optimizer state")
    if state.average:
        yield _line("", f"{gib(state.average):>8}  average of the weights")
    if compiled is not None:
        activations = max(compiled.temporary_bytes - state.gradient, 0)
        yield _line("", f"{gib(min(state.gradient, compiled.temporary_bytes)):>8}  gradient")
        yield _line("", f"{gib(activations):>8}  activations and working space")
        others = compiled.peak_bytes - state.kept - compiled.temporary_bytes
        yield _line("", f"{gib(state.batch + max(others, 0)):>8}  batch, metrics and the program")
    limit = "" if memory_bytes == math.inf else f" of {gib(memory_bytes)}"
    yield _line("", f"{gib(phase.peak_bytes()):>8}  peak{limit}")


def _traffic_lines(phase: PhaseResult, compiled: Compiled, topology: Topology) -> Iterator[str]:
    moved = compiled.memory_traffic_bytes
    intensity = phase.computed_flops / topology.num_devices / max(moved, 1)
    chip = topology.chip
    balance = ""
    if chip is not None:
        ridge = chip.peak_flops / chip.memory_bytes_per_second
        balance = f" ({chip.name} needs {ridge:.0f} to be busy with arithmetic)"
    yield _line(
        "traffic",
        f"{_gigabytes(moved)} from and to memory a device: {intensity:.0f} FLOPs a byte{balance}",
    )
    for kind, each in sorted(compiled.collectives.items()):
        yield _line(
            "collectives",
            f"{each.count:,} {kind} of {_gigabytes(each.payload_bytes)} in all, "
            f"{_gigabytes(each.sent_bytes)} sent by a device",
        )
    if not compiled.collectives:
        yield _line("collectives", "none")


def gib(count: float) -> str:
    """Bytes in GiB, with three digits that matter."""
    value = count / GIB
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def days(seconds: float) -> str:
    """Seconds in days, or a shorter unit where that says more."""
    return f"{seconds / 86400:.1f} days" if seconds >= 2 * 86400 else duration(seconds)


def _gigabytes(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB" if count < 1000 else f"{count:,.0f} GB"


def _line(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}".rstrip()
