"""What the memory of a device holds during a step, part by part."""

from roberta_jax.dryrun.result import PhaseResult


def memory_parts(phase: PhaseResult) -> list[tuple[str, int]]:
    """Names and bytes; they add up to `phase.peak_bytes()`.

    Where the compiler gave up, what the state, the batch and the gradient leave of the need is
    taken for activations. Where the state alone is too large, nothing else is known.
    """
    state, compiled = phase.state, phase.compiled
    parts = [("parameters", state.parameters), ("optimizer state", state.optimizer)]
    if state.average:
        parts.append(("average of the weights", state.average))
    if phase.state_is_too_large:
        return [*parts, ("batch", state.batch)]
    temporary = phase.peak_bytes() - state.kept
    if compiled is not None:
        temporary = compiled.temporary_bytes
    gradient = min(state.gradient, temporary)
    return [
        *parts,
        ("gradient", gradient),
        ("activations and working space", temporary - gradient),
        (
            "batch, metrics and the program",
            phase.peak_bytes() - temporary - state.kept + state.batch,
        ),
    ]
