"""The settings of a trial on disk, so that one with other settings does not go on with it."""

import json
import pathlib
from typing import Any

from roberta_jax.errors import UserError

SETTINGS_FILE = "settings.json"


def check_settings(folder: pathlib.Path, settings: dict[str, Any]) -> None:
    """Raises UserError that names what differs from the settings in a trial's folder, if any."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        return
    stored, wanted = _flat(json.loads(path.read_text(encoding="utf-8"))), _flat(settings)
    names = [name for name in wanted if stored.get(name) != wanted[name]]
    if names:
        different = ", ".join(f"{name} ({stored.get(name)}, now {wanted[name]})" for name in names)
        raise UserError(
            f"{folder} has a trial with other settings: {different}. Choose another --workdir, or "
            "run with the settings of before to go on."
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= (
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return found
