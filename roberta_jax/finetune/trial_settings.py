"""The settings of a trial on disk, so that one with other settings does not go on with it."""

import json
import pathlib
from typing import Any

from roberta_jax.errors import UserError

SETTINGS_FILE = "settings.json"
# Those in which the trials of a task may differ; with others they are not compared.
OF_ONE_TRIAL = ("learning_rate", "batch_size", "seeds")
# Fingerprints, and what a message calls them.
_CONTENT = {
    "rows": "the examples, or how rows are made of them",
    "weights": "the weights that it began with",
}


def check_settings(folder: pathlib.Path, settings: dict[str, Any]) -> None:
    """Raises UserError that names what differs from the settings in a trial's folder, if any."""
    path = folder / SETTINGS_FILE
    if not path.exists():
        return
    stored, wanted = _flat(json.loads(path.read_text(encoding="utf-8"))), _flat(settings)
    names = [name for name in wanted if stored.get(name) != wanted[name]]
    if names:
        different = ", ".join(
            _CONTENT[name]
            if name in _CONTENT
            else f"{name} ({stored.get(name)!r}, now {wanted[name]!r})"
            for name in names
        )
        raise UserError(
            f"{folder} has a trial with other settings: {different}. Choose another --workdir, or "
            "run with what it had before."
        )


def check_with_others(trials: pathlib.Path, complete: str, settings: dict[str, Any]) -> None:
    """Raises UserError if a complete trial of a task cannot be compared with one of these settings.

    Args:
      trials: the folder of the task's trials.
      complete: the name of the file that a complete trial has.
      settings: of a trial that is to be made.
    """
    common = {name: value for name, value in settings.items() if name not in OF_ONE_TRIAL}
    for path in sorted(trials.glob(f"*/{complete}")):
        check_settings(path.parent, common)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= (
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return found
