"""The losses over masked positions, as sums and a count."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossSums:
    """Sums over predictions; add them over microbatches, hosts and batches, then divide once."""

    loss: jax.Array  # Nats.
    correct: jax.Array  # Predictions to whose target no token is preferred.
    count: jax.Array  # Predictions.

    def __add__(self, other: "LossSums") -> "LossSums":
        """Elementwise."""
        return jax.tree.map(jnp.add, self, other)


@jax.custom_vjp
def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """-log softmax(logits)[targets] in nats: logits [..., V] float32, targets [...] → [...].

    The gradient, softmax - one_hot, is written out: it is one elementwise pass over the logits,
    where differentiating the gather of the target would scatter into an array of zeros.
    """
    return _cross_entropy_forward(logits, targets)[0]


def _cross_entropy_forward(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, Any]:
    log_total = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return log_total - chosen, (logits, targets, log_total)


def _cross_entropy_backward(saved: Any, cotangent: jax.Array) -> tuple[jax.Array, Any]:
    logits, targets, log_total = saved
    entries = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
    one_hot = (entries == targets[..., None]).astype(logits.dtype)
    gradient = jnp.exp(logits - log_total[..., None]) - one_hot
    return gradient * cotangent[..., None], np.zeros(targets.shape, jax.dtypes.float0)


cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


def masked_lm_sums(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> LossSums:
    """Cross-entropy of the targets, summed.

    Args:
      logits: [B, M, V] float32; -inf entries have no probability.
      targets: [B, M] int32.
      weights: [B, M] float32, 0 for slots that don't count.

    Returns:
      Float32 scalars; the loss is in nats.
    """
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    hits = jax.lax.stop_gradient(chosen >= logits.max(axis=-1))
    return LossSums(
        loss=jnp.sum(cross_entropy(logits, targets) * weights),
        correct=jnp.sum(hits * weights),
        count=jnp.sum(weights),
    )


@jax.custom_vjp
def squared_log_total(logits: jax.Array) -> jax.Array:
    """(log Σ exp(logits))² in nats²: logits [..., V] float32 → [...].

    The gradient, 2 · log Σ exp · softmax, is written out: it needs the logits only, which
    `cross_entropy` keeps anyway, where differentiating would keep another array of their size.
    """
    return _squared_log_total_forward(logits)[0]


def _squared_log_total_forward(logits: jax.Array) -> tuple[jax.Array, Any]:
    log_total = jax.nn.logsumexp(logits, axis=-1)
    return jnp.square(log_total), (logits, log_total)


def _squared_log_total_backward(saved: Any, cotangent: jax.Array) -> tuple[jax.Array]:
    logits, log_total = saved
    probabilities = jnp.exp(logits - log_total[..., None])
    return (probabilities * (2 * log_total * cotangent)[..., None],)


squared_log_total.defvjp(_squared_log_total_forward, _squared_log_total_backward)


def z_loss_sum(logits: jax.Array, weights: jax.Array) -> jax.Array:
    """The squared log of the softmax's denominator, summed (PaLM, section 5, has 1e-4 of its mean).

    Args:
      logits: [B, M, V] float32; -inf entries have no probability.
      weights: [B, M] float32, 0 for slots that don't count.

    Returns:
      A float32 scalar in nats², to be divided by the count of `masked_lm_sums`; its weight in the
      loss is the caller's.
    """
    return jnp.sum(squared_log_total(logits) * weights)
