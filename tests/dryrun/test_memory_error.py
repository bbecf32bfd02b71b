"""What XLA said, word for word, when memory was missing."""

import pytest

from roberta_jax.dryrun.memory_error import needed_and_available

# libtpu 0.0.42.1.
TOO_LARGE = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries "
    "(400.00G) exceeds available HBM (15.75G)."
)


def test_what_the_temporaries_need_comes_on_top_of_what_is_given():
    found = needed_and_available(TOO_LARGE, argument_bytes=2**30)
    assert found == (401 * 2**30, 15.75 * 2**30)


def test_the_whole_need_is_taken_as_it_is_and_units_are_binary():
    text = "Used 1.5M of 512K hbm. Exceeded hbm capacity by 1.0M."
    assert needed_and_available(text, argument_bytes=7) == (1.5 * 2**20, 2**19)


@pytest.mark.parametrize(
    "text",
    [
        "INTERNAL: Mosaic failed to compile TPU kernel",
        "RESOURCE_EXHAUSTED: Out of memory allocating 17 bytes.",
    ],
)
def test_another_error_is_none(text):
    assert needed_and_available(text, argument_bytes=0) is None
