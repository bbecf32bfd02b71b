"""Numbers in sentences."""


def count_of(number: float, noun: str, plural: str = "") -> str:
    """A number and what it counts: "1 row", "2,000 rows", "0.5 epochs".

    Args:
      number: 0 or more.
      noun: of one; words that agree with it may follow, such as "row is".
      plural: of any other number; "" for the noun with an s.
    """
    shown = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{shown} {noun if number == 1 else plural or f'{noun}s'}"
