"""What XLA says when a program needs more memory than a device has, in numbers.

It looks at the temporaries before it has placed them. A program that is a little too large then
compiles without an error, and only its peak tells.
"""

import re

# libtpu 0.0.42.1, of what a program needs beside what it is given.
_TEMPORARIES = re.compile(
    r"HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)"
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def needed_bytes(message: str, *, argument_bytes: int) -> int | None:
    """Bytes that a program needs; None if it is another error.

    Args:
      message: of the error.
      argument_bytes: what the program is given, of which the message does not speak.
    """
    if found := _TEMPORARIES.search(message):
        return argument_bytes + round(float(found[1]) * _UNITS[found[2]])
    return None
