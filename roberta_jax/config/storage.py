"""A config as nested dicts and as JSON, and back."""

import dataclasses
import json
import math
from typing import Any, get_type_hints

from roberta_jax.config.checks import item_type
from roberta_jax.errors import UserError


def to_dict(config: Any) -> dict[str, Any]:
    """The config as nested dicts that JSON can hold; infinity becomes the string "inf"."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return "inf" if value == math.inf else value

    return plain(dataclasses.asdict(config))


def from_dict(cls: type, values: dict[str, Any]) -> Any:
    """The inverse of `to_dict`.

    A key that is missing, because an older version wrote the values, takes its default. Unknown
    keys raise UserError naming them.
    """
    hints = get_type_hints(cls)
    if not isinstance(values, dict) or set(values) - set(hints):
        unknown = sorted(set(values) - set(hints)) if isinstance(values, dict) else values
        raise UserError(
            f"The stored {cls.__name__} has keys that this version of roberta_jax does not know: "
            f"{unknown}. Use the version that wrote it, or start a new workdir."
        )
    fields = {}
    for name, value in values.items():
        kind = hints[name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            fields[name] = from_dict(kind, value)
        elif item := item_type(kind):
            fields[name] = tuple(from_dict(item, one) for one in value)
        else:
            fields[name] = math.inf if kind is float and value == "inf" else value
    return cls(**fields)


def dumps(config: Any) -> str:
    """The config as indented JSON text, as stored in `config.json`."""
    return json.dumps(to_dict(config), indent=2) + "\n"


def set_field(config: Any, path: str, value: Any) -> None:
    """Sets the field that `field_paths` calls so, such as "fit.epochs"; not one of a phase."""
    *sections, field = path.split(".")
    for section in sections:
        config = getattr(config, section)
    setattr(config, field, value)


def field_paths(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every leaf field as {"encoder.num_layers": 12, "phases[0].duration": …}, as declared."""
    paths: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            paths |= field_paths(value, f"{name}.")
        elif isinstance(value, tuple):
            for number, one in enumerate(value):
                paths |= field_paths(one, f"{name}[{number}].")
        else:
            paths[name] = value
    return paths
