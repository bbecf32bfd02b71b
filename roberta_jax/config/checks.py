"""How a value is refused: what was given, and what is allowed."""

import dataclasses
from typing import Any, get_args, get_type_hints

from roberta_jax.errors import UserError


def require(condition: bool, name: str, value: Any, allowed: str) -> None:
    """Raises UserError "config.NAME is VALUE; it must be ALLOWED." unless `condition` holds."""
    if not condition:
        raise UserError(f"config.{name} is {value}; it must be {allowed}.")


def one_of(value: str, name: str, allowed: tuple[str, ...]) -> None:
    """Raises UserError unless `value` is one of `allowed`."""
    require(value in allowed, name, repr(value), "one of " + ", ".join(allowed))


def check_types(config: Any, prefix: str = "") -> None:
    """Raises UserError unless every field has its declared type; whole floats become floats."""
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(kind):
            check_types(value, f"{prefix}{name}.")
        elif item := item_type(kind):
            _check_items(value, item, f"{prefix}{name}")
        elif kind is float and isinstance(value, int) and not isinstance(value, bool):
            setattr(config, name, float(value))  # `1` is a fine way to write a rate.
        elif type(value) is not kind:
            raise UserError(
                f"config.{prefix}{name} is {value!r}; it must be of type {kind.__name__}."
            )


def item_type(kind: Any) -> type | None:
    """The dataclass X of a field declared as tuple[X, ...]; None for any other field."""
    arguments = get_args(kind)
    item = arguments[0] if arguments else None
    return item if isinstance(item, type) and dataclasses.is_dataclass(item) else None


def _check_items(value: Any, item: type, name: str) -> None:
    if not isinstance(value, tuple) or not all(type(one) is item for one in value):
        raise UserError(f"config.{name} is {value!r}; it must be a tuple of {item.__name__}.")
    for number, one in enumerate(value):
        check_types(one, f"{name}[{number}].")
