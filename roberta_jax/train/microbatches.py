"""Into how many parts a batch is divided, where the user leaves it to the program.

The gradient is the same for any number (up to rounding); the memory of the activations is not.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from roberta_jax.config import EncoderConfig, PretrainConfig
from roberta_jax.encoder.model import abstract_params
from roberta_jax.parallel.mesh import check_batch, num_batch_shards
from roberta_jax.train.plan import Phase, Plan

# A CPU has memory for more, but larger parts leave its caches without being faster.
CPU_ACTIVATION_BYTES = 2**30
# Of an accelerator's memory, for the state and the activations; the rest is for XLA's own needs.
USED_SHARE = 0.8
# Where a device doesn't tell its memory.
UNKNOWN_DEVICE_BYTES = 8 * 2**30


def with_microbatches(
    config: PretrainConfig, plan: Plan, mesh: Mesh, *, device_bytes: float = 0.0
) -> Plan:
    """The plan with a number of microbatches in every phase; all are checked against the mesh.

    Args:
      config: the run.
      plan: its phases.
      mesh: the devices.
      device_bytes: memory of one of them; 0 asks it.

    Raises:
      UserError: a batch cannot be split evenly over the devices.
    """
    phases = []
    for phase in plan.phases:
        check_batch(phase.batch_size, max(phase.num_microbatches, 1), mesh)
        chosen = phase.num_microbatches
        if not chosen:
            budget = activation_budget_bytes(config, mesh, device_bytes)
            chosen = choose_microbatches(config, phase, mesh, budget)
        phases.append(dataclasses.replace(phase, num_microbatches=chosen))
    return dataclasses.replace(plan, phases=tuple(phases))


def choose_microbatches(
    config: PretrainConfig, phase: Phase, mesh: Mesh, budget_bytes: float
) -> int:
    """As few as fit the budget, by an estimate of the memory per row that errs on the high side."""
    rows = phase.batch_size // num_batch_shards(mesh)  # Of one device.
    split = mesh.shape["tensor"] * mesh.shape["context"]
    per_row = activation_bytes_per_row(config, phase.sequence_length) // split
    for parts in range(1, rows + 1):
        if rows % parts == 0 and rows // parts * per_row <= budget_bytes:
            return parts
    return rows


def activation_bytes_per_row(config: PretrainConfig, sequence_length: int) -> int:
    """What one row needs between the forward and the backward pass of the model, at most about."""
    encoder = config.encoder
    size = jnp.dtype(encoder.compute_dtype).itemsize
    tokens, width = sequence_length, encoder.hidden_size
    kept, working = _layer_bytes(encoder, tokens, size)
    predictions = config.masking.max_masked(sequence_length)
    # Logits, their gradient and a copy, in float32.
    head = predictions * (12 * encoder.padded_vocab_size() + 8 * size * width)
    embedding = tokens * width * (8 + size)
    return encoder.num_layers * kept + working + head + embedding


def _layer_bytes(encoder: EncoderConfig, tokens: int, size: int) -> tuple[int, int]:
    """Bytes that every layer keeps, and bytes that one needs while it is computed, per row."""
    width, inside = tokens * encoder.hidden_size, tokens * encoder.mlp_size
    scores = encoder.num_heads * tokens * tokens
    # Query, key, value, attended, two sums and two normalised, each in the compute type; the MLP's
    # inside before and after GELU; the probabilities.
    everything = size * (10 * width + 2 * inside + 2 * scores)
    working = everything + 4 * (2 * width + inside + 2 * scores)
    kept = {
        "none": everything,
        "dots": size * (6 * width + inside),
        "full": size * width,
    }[encoder.rematerialization]
    return kept, working


def activation_budget_bytes(config: PretrainConfig, mesh: Mesh, device_bytes: float = 0.0) -> int:
    """Memory of one device for activations, of the `device_bytes` that it has; 0 asks it."""
    total = device_bytes
    if not total:
        device = mesh.local_devices[0]
        if device.platform == "cpu":
            return CPU_ACTIVATION_BYTES // len(mesh.local_devices)
        stats = device.memory_stats() or {}
        total = stats.get("bytes_limit", UNKNOWN_DEVICE_BYTES)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config.encoder)))
    split = mesh.shape["fsdp"] * mesh.shape["tensor"]
    moment = jnp.dtype(config.optimizer.moments_dtype).itemsize
    # Weights, gradient and its sum in float32; two moments over where those are whole as well.
    averages = 4 if config.optimizer.average_decay else 0
    whole = mesh.shape["data"] * mesh.shape["context"]
    state = num_params * (12 + (2 * moment + averages) / whole) / split
    return max(int(USED_SHARE * total - state), 1)
