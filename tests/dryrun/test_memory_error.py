"""What XLA said, word for word, when memory was missing."""

import pytest

from roberta_jax.dryrun.memory_error import needed_bytes

# libtpu 0.0.42.1, of base_v5e_16.py on v5e:4x4 with --config.train.num_microbatches=1.
TOO_LARGE = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries "
    "(26.44G) exceeds available HBM (15.75G)."
)


def test_what_the_temporaries_need_comes_on_top_of_what_is_given():
    found = needed_bytes(TOO_LARGE, argument_bytes=562_322_628)
    assert found == 562_322_628 + round(26.44 * 2**30)


def test_units_are_binary():
    text = TOO_LARGE.replace("26.44G", "1536.00M")
    assert needed_bytes(text, argument_bytes=0) == 1.5 * 2**30


@pytest.mark.parametrize(
    "text",
    [
        "INTERNAL: Mosaic failed to compile TPU kernel",
        "RESOURCE_EXHAUSTED: Out of memory allocating 17 bytes.",
    ],
)
def test_another_error_is_none(text):
    assert needed_bytes(text, argument_bytes=0) is None
