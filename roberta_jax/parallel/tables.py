"""Tables from the path of an array to its PartitionSpec; a path that no row covers is an error."""

import re
from typing import Any, TypeVar

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.parallel.mesh import BATCH_AXES

Tree = TypeVar("Tree")

# (pattern for the end of the path, spec). Leaves under `layers` have a leading layer axis.
# Optimizer moments end in the path of their parameter, so the same rows serve them.
PARAM_SPECS: tuple[tuple[str, P], ...] = (
    (r"embedding/token/embedding", P("tensor", "fsdp")),
    (r"embedding/(position|token_type)/embedding", P(None, "fsdp")),
    (r"layers/attention/(query|key|value)/kernel", P(None, "fsdp", "tensor")),
    (r"layers/attention/(query|key|value)/bias", P(None, "tensor")),
    (r"layers/attention/out/kernel", P(None, "tensor", "fsdp")),
    (r"layers/mlp/up/kernel", P(None, "fsdp", "tensor")),
    (r"layers/mlp/up/bias", P(None, "tensor")),
    (r"layers/mlp/down/kernel", P(None, "tensor", "fsdp")),
    (r"layers/(attention/out|mlp/down)/bias", P()),
    (r"head/dense/kernel", P("fsdp", None)),
    (r"head/dense/bias", P()),
    (r"head/bias", P("tensor")),
    (r"head/projection/(kernel|bias)", P()),  # A few outputs.
    (r"(norm|attention_norm|mlp_norm)/(scale|bias)", P()),
    (r"(step|count)", P()),  # Scalars of the state and of the optimizer.
)


# What the activations keep sharded, by name of the place.
ACTIVATION_SPECS: dict[str, P] = {
    "hidden": P(BATCH_AXES, None, None),  # [B, T, D] after the embedding and after each layer
    "masked_hidden": P(BATCH_AXES, None, None),  # [B, M, D]
    "logits": P(BATCH_AXES, None, "tensor"),  # [B, M, V]
}


def path_name(path: jax.tree_util.KeyPath) -> str:
    """A tree path as "layers/mlp/up/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def spec_of(name: str) -> P:
    """The PartitionSpec of the array at path `name`.

    Raises:
      KeyError: no row of PARAM_SPECS covers the path.
    """
    for pattern, spec in PARAM_SPECS:
        if re.search(f"(^|/){pattern}$", name):
            return spec
    raise KeyError(f"No row of PARAM_SPECS covers {name!r}; every parameter must be covered.")


def shardings(tree: Tree, mesh: Mesh) -> Tree:
    """A NamedSharding for every leaf of `tree` (arrays or shapes)."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: NamedSharding(mesh, spec_of(path_name(path))), tree
    )


def abstract(shapes: Tree, mesh: Mesh) -> Tree:
    """The tree as `jax.ShapeDtypeStruct`s that carry their sharding: a target to restore into."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings(shapes, mesh),
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over the batch axes, everything else whole."""
    return NamedSharding(mesh, P(BATCH_AXES))


def constrain(x: jax.Array, place: str) -> jax.Array:
    """Keeps `x` sharded as ACTIVATION_SPECS says; without it XLA may replicate a batch on a pod."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, ACTIVATION_SPECS[place])


def constrain_microbatches(batch: Any) -> Any:
    """Keeps leaves [microbatches, rows, …] split by row, not by microbatch."""
    if jax.sharding.get_abstract_mesh().empty:
        return batch
    return jax.lax.with_sharding_constraint(batch, P(None, BATCH_AXES))
