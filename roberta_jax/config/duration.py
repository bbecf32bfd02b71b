"""How long something lasts, with its unit written out: "24000 steps", "2e9 tokens", "10%"."""

import dataclasses
import math
import re

from roberta_jax.errors import UserError

UNITS = ("steps", "tokens", "epochs", "%")
# Commas stand between thousands only: "2,5 epochs" means something else to every other reader.
_FORM = re.compile(
    r"\s*((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)\.?[0-9]*(?:[eE][+-]?[0-9]+)?)"
    r"\s*([a-zA-Z]+|%)\s*"
)
_ALLOWED = (
    'a number with one unit, such as "500000 steps", "2.1e12 tokens", "40 epochs" or "10%": '
    "a whole number of steps, and at most 100%"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Duration:
    """A length in one unit.

    Attributes:
      number: 0 or more.
      unit: one of UNITS. Steps are updates; tokens are places in rows, padding included; an epoch
        is as many rows as the dataset has; % is of the steps of the whole.
    """

    number: float
    unit: str

    @classmethod
    def parse(cls, text: str, name: str) -> "Duration":
        """Reads a duration; `name` is the setting's, for the message.

        Raises:
          UserError: it has no unit, several, an unknown one, or is no number.
        """
        match = _FORM.fullmatch(text)
        unit = match[2].lower() if match else ""
        unit = unit if unit in UNITS else f"{unit}s"  # "1 step" is fine as well.
        if match is None or unit not in UNITS:
            raise UserError(f"config.{name} is {text!r}; it must be {_ALLOWED}.")
        number = float(match[1].replace("_", "").replace(",", ""))
        whole = unit != "steps" or number % 1 == 0
        if not math.isfinite(number) or not whole or (unit == "%" and number > 100):
            raise UserError(f"config.{name} is {text!r}; it must be {_ALLOWED}.")
        return cls(number, unit)
