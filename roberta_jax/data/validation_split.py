"""Which documents of a corpus are kept for validation, known while it streams by."""

import fractions
from collections.abc import Callable, Iterable, Iterator

from roberta_jax.data.corpus import Document
from roberta_jax.errors import UserError

TRAIN, VALIDATION = "train", "validation"
LARGEST_FRACTION = 0.5


# The golden ratio's share of a turn: phases of parts that follow each other are spread evenly.
PHASE_STEP = fractions.Fraction(618_034, 1_000_000)


def split_documents(
    documents: Iterable[Document], validation_fraction: float, part: int = 0
) -> Iterator[tuple[str, Document]]:
    """Every document of a part of the corpus with its split.

    The pieces of a document stay together.
    """
    in_validation = systematic_sample(validation_fraction, part)
    number, split = -1, TRAIN
    for document in documents:
        if document.is_start:
            number += 1
            split = VALIDATION if in_validation(number) else TRAIN
        yield split, document


def systematic_sample(fraction: float, part: int = 0) -> Callable[[int], bool]:
    """Whether document i of a part of the corpus is taken: evenly spaced.

    Of part 0, from the second document on, so that two suffice; other parts begin elsewhere, so
    that many small parts give the same share. Document i is taken iff floor((i + 1) * fraction +
    phase) > floor(i * fraction + phase), in integers, so that no rounding changes the choice.
    Raises UserError for a fraction outside [0, 0.5].
    """
    if not 0 <= fraction <= LARGEST_FRACTION:
        raise UserError(
            f"validation_fraction is {fraction}; it must be in [0, {LARGEST_FRACTION}]."
        )
    exact = fractions.Fraction(str(fraction))
    phase = (1 - 2 * exact + part * PHASE_STEP) % 1
    whole = exact.denominator * phase.denominator
    step, start = int(exact * whole), int(phase * whole)
    return lambda i: ((i + 1) * step + start) // whole > (i * step + start) // whole
