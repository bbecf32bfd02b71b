"""Tables from the path of an array to its PartitionSpec; a path that no row covers is an error."""

import itertools
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
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
    (r"((next_sentence|answerable)_)?head/dense/kernel", P("fsdp", None)),
    (r"((next_sentence|answerable)_)?head/dense/bias", P()),
    (r"head/bias", P("tensor")),
    (r"((next_sentence|answerable)_)?head/projection/(kernel|bias)", P()),  # A few outputs.
    (r"(norm|attention_norm|mlp_norm)/(scale|bias)", P()),
    (r"(step|count)", P()),  # Scalars of the state and of the optimizer.
)


# What is only needed for the update, and so is split as well over the axes along which the weights
# are whole (ZeRO, arXiv 1910.02054, stage 1): the moments of the optimizer and the average of the
# weights.
_OF_THE_UPDATE = re.compile(r"(^|/)(mu|nu|average)/")

# How values inside the model are split, by name of the place. What works token by token has its
# tokens split over `context`, and only what a query looks at is whole there.
ACTIVATION_SPECS: dict[str, P] = {
    "table": P("tensor", None),  # [V, D] of the tokens, before it is looked up or multiplied
    "small_table": P(),  # [positions or token types, D]
    "ids": P(BATCH_AXES, "context"),  # [B, T] of tokens, positions and token types
    "hidden": P(BATCH_AXES, "context", None),  # [B, T, D] after the embedding and after each layer
    "heads": P(BATCH_AXES, "context", "tensor", None),  # [B, T, H, K] of queries, keys, values
    "attended": P(BATCH_AXES, None, "tensor", None),  # [B, S, H, K] of keys and values
    # Slots need not divide evenly: the compiler fills up.
    "masked_hidden": P(BATCH_AXES, "context", None),  # [B, M, D]
    "logits": P(BATCH_AXES, "context", "tensor"),  # [B, M, V]
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


def moment_spec(spec: P, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> P:
    """The spec of a parameter's moments: its own, and the data axis over one of its axes.

    The context axis as well, where it can be: weights are whole along both.

    Args:
      spec: of the parameter.
      shape: of the parameter.
      mesh: with the axes "data" and "context".

    Returns:
      The longest axis of the array that divides evenly is split further; `spec` if none does.
    """
    axes: list[tuple[str, ...]] = []
    for number in range(len(shape)):
        entry = spec[number] if number < len(spec) else None
        axes.append(() if entry is None else (entry,) if isinstance(entry, str) else tuple(entry))
    longest_first = sorted(range(len(shape)), key=lambda number: -shape[number])
    further: list[tuple[str, ...]] = [("data",)]
    if mesh.shape["context"] > 1:
        further.insert(0, ("data", "context"))
    for more, number in itertools.product(further, longest_first):
        over = (*axes[number], *more)
        if shape[number] % math.prod(mesh.shape[axis] for axis in over) == 0:
            axes[number] = over
            return P(*(_entry(names) for names in axes))
    return spec


def _entry(names: tuple[str, ...]) -> str | tuple[str, ...] | None:
    return (names[0] if len(names) == 1 else names) if names else None


def shardings(tree: Tree, mesh: Mesh) -> Tree:
    """A NamedSharding for every leaf of `tree` (arrays or shapes)."""

    def sharding(path: jax.tree_util.KeyPath, leaf: Any) -> NamedSharding:
        name = path_name(path)
        spec = spec_of(name)
        if _OF_THE_UPDATE.search(name):
            spec = moment_spec(spec, leaf.shape, mesh)
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(sharding, tree)


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
    return _constrain(x, ACTIVATION_SPECS[place])


def num_shards(axis: str) -> int:
    """Devices along an axis of the mesh that is set; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else mesh.shape[axis]


def constrain_microbatches(batch: Any) -> Any:
    """Keeps leaves [microbatches, rows, …] split by row, not by microbatch."""
    return jax.tree.map(lambda leaf: _constrain(leaf, P(None, BATCH_AXES)), batch)


def constrain_like_moments(gradient: Tree) -> Tree:
    """Splits a gradient as the moments of its parameters are, before the update.

    Each device then updates its part, and the sum over the devices can be a reduce-scatter.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return gradient
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: _constrain(
            leaf, moment_spec(spec_of(path_name(path)), leaf.shape, mesh)
        ),
        gradient,
    )


def _constrain(x: jax.Array, spec: P) -> jax.Array:
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    # Inside `sum_over_data` the data axis is not the compiler's any more.
    ours = {
        name
        for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
        if kind == AxisType.Manual
    }
    entries = []
    for entry in spec:
        names = () if entry is None else (entry,) if isinstance(entry, str) else entry
        entries.append(_entry(tuple(name for name in names if name not in ours)))
    return jax.lax.with_sharding_constraint(x, P(*entries))


def _num_split(mesh: AbstractMesh, axes: tuple[str, ...]) -> int:
    return sum(mesh.shape[axis] > 1 for axis in axes)


def sum_over_data(function: Callable[..., Tree], shared: Any, batch: Any) -> Tree:
    """`function(shared, batch)`, a sum over the rows of the batch, with one sum over the devices.

    `function` runs on the rows of each part of the data axis by itself, and its results are added
    once, at the end. Left to the compiler, a gradient that is accumulated over microbatches is
    summed over the devices after every one of them.

    Args:
      function: (shared, rows) → a tree of sums over the rows.
      shared: what it needs of all devices, such as parameters, whole or split over other axes.
      batch: a tree of arrays whose first axis is split over BATCH_AXES.
    """
    mesh = jax.sharding.get_abstract_mesh()
    # XLA's partitioner aborts on the mix of a manual axis with two others.
    if mesh.empty or mesh.shape["data"] == 1 or _num_split(mesh, ("fsdp", "context", "tensor")) > 1:
        return function(shared, batch)

    def summed(shared: Any, rows: Any) -> Tree:
        return jax.lax.psum(function(shared, rows), "data")

    return jax.shard_map(
        summed,
        mesh=mesh,
        in_specs=(P(), P("data")),
        out_specs=P(),
        axis_names={"data"},
        check_vma=False,
    )(shared, batch)
