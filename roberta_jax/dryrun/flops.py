"""Matrix FLOPs of a traced step, over all devices: what is really computed, recomputation too."""

import math
from typing import Any


def matmul_flops(jaxpr: Any) -> float:
    """FLOPs of all matrix products in a (closed) jaxpr: 2 per multiply-add.

    A loop counts as often as it runs, and what runs per device on each of them. XLA's own count
    takes the body of a loop once.
    """
    total = 0.0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        if equation.primitive.name == "dot_general":
            total += _product_flops(equation)
            continue
        inner = sum(matmul_flops(part) for part in _parts(equation.params))
        if equation.primitive.name == "scan":
            inner *= equation.params["length"]
        elif equation.primitive.name == "shard_map":
            inner *= _devices_of(equation.params)
        total += inner
    return total


def _devices_of(parameters: dict[str, Any]) -> int:
    """Devices on each of which the body of a `shard_map` runs with shapes of its own."""
    # The first name is that of jax 0.10.
    names = ("newly_manual_axes", "manual_axes")
    axes = next(parameters[name] for name in names if name in parameters)
    return math.prod(parameters["mesh"].shape[axis] for axis in axes)


def _product_flops(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    result = equation.outvars[0].aval.shape
    return 2.0 * math.prod(result) * math.prod(left[axis] for axis in contracted)


def _parts(parameters: dict[str, Any]) -> list[Any]:
    """The jaxprs among the parameters of an equation."""
    found = []
    for value in parameters.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if hasattr(each, "eqns") or hasattr(each, "jaxpr"):
                found.append(each)
    return found
