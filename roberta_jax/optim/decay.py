"""Which parameters weight decay applies to, by path; every parameter must be covered."""

import re
from typing import Any

import jax

from roberta_jax.parallel.tables import path_name

# (pattern for the end of the path, whether it decays)
DECAY_TABLES: dict[str, tuple[tuple[str, bool], ...]] = {
    # google-research/bert and its descendants: not on biases and LayerNorm.
    "bert": (
        (r"bias", False),
        (r"(norm|attention_norm|mlp_norm)/scale", False),
        (r"(kernel|embedding)", True),
    ),
    # fairseq: on every parameter.
    "fairseq": ((r"(bias|scale|kernel|embedding)", True),),
}


def decays(name: str, table: str) -> bool:
    """Whether the parameter at path `name` decays.

    Raises:
      KeyError: no row of the table covers the path.
    """
    for pattern, value in DECAY_TABLES[table]:
        if re.search(f"(^|/){pattern}$", name):
            return value
    raise KeyError(f"No row of the decay table {table!r} covers {name!r}.")


def decay_mask(params: Any, table: str) -> Any:
    """A tree of bools like `params`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: decays(path_name(path), table), params)
