"""Which documents of a corpus are kept for validation, known while it streams by."""

import fractions
from collections.abc import Callable, Iterable, Iterator

from roberta_jax.data.corpus import Document
from roberta_jax.errors import UserError

TRAIN, VALIDATION = "train", "validation"
LARGEST_FRACTION = 0.5


def split_documents(
    documents: Iterable[Document], validation_fraction: float
) -> Iterator[tuple[str, Document]]:
    """Every document with its split; the pieces of a document stay together."""
    in_validation = systematic_sample(validation_fraction)
    number, split = -1, TRAIN
    for document in documents:
        if document.is_start:
            number += 1
            split = VALIDATION if in_validation(number) else TRAIN
        yield split, document


def systematic_sample(fraction: float) -> Callable[[int], bool]:
    """Whether document i is taken: evenly spaced, from the second on, so that two suffice.

    With phase 1 - 2 * fraction, document i is taken iff floor((i + 1) * fraction + phase) > floor(i
    * fraction + phase), in integers, so that no rounding changes the choice. Raises UserError for a
    fraction outside [0, 0.5].
    """
    if not 0 <= fraction <= LARGEST_FRACTION:
        raise UserError(
            f"validation_fraction is {fraction}; it must be in [0, {LARGEST_FRACTION}]."
        )
    exact = fractions.Fraction(str(fraction))
    step, whole = exact.numerator, exact.denominator
    phase = whole - 2 * step
    return lambda i: ((i + 1) * step + phase) // whole > (i * step + phase) // whole
