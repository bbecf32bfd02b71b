"""What XLA says when a program needs more memory than a device has, in numbers."""

import re

_NUMBER = r"([\d.]+)([KMGT]?)"
# Of libtpu, after all passes: everything that a program needs.
_ALL = re.compile(rf"Used {_NUMBER} of {_NUMBER} hbm", re.IGNORECASE)
# At its first look: its temporaries alone.
_TEMPORARIES = re.compile(rf"\({_NUMBER}\) exceeds available HBM \({_NUMBER}\)")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def needed_and_available(message: str, *, argument_bytes: int) -> tuple[int, int] | None:
    """Bytes that a program needs and bytes that there are; None if it is another error.

    Args:
      message: of the error.
      argument_bytes: what the program is given, where the message speaks of the rest.
    """
    if found := _ALL.search(message):
        return _bytes(found[1], found[2]), _bytes(found[3], found[4])
    if found := _TEMPORARIES.search(message):
        return argument_bytes + _bytes(found[1], found[2]), _bytes(found[3], found[4])
    return None


def _bytes(number: str, unit: str) -> int:
    return round(float(number) * _UNITS[unit.upper()])
