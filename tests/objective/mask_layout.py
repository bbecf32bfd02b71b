"""A batch of 16 rows, and its maskers, for tests that lay it out in many ways."""

import numpy as np

from roberta_jax.config import MaskingConfig
from roberta_jax.objective.masking import Masker

START, PAD, END, UNKNOWN, MASK = 0, 1, 2, 3, 49
SPECIAL = (START, PAD, END, UNKNOWN, MASK)
VOCAB, ROWS, LENGTH = 50, 16, 64
KEY_SEED = 11
# Every third token begins a word.
STARTS = tuple(i in SPECIAL or i % 3 == 0 for i in range(VOCAB))

_source = np.random.Generator(np.random.Philox(key=8))
TOKENS = _source.integers(4, MASK, (ROWS, LENGTH), np.int32)
TOKENS[:, 0], TOKENS[:, -1], TOKENS[::2, -9:] = START, END, PAD
INDEX = _source.integers(0, 2**32, ROWS, np.uint32)
EPOCHS = _source.integers(0, 40, ROWS, np.uint32)


def make_masker(whole_words, **settings):
    config = MaskingConfig(whole_words=whole_words, **settings)
    return Masker(config, VOCAB, SPECIAL, MASK, PAD, START, STARTS if whole_words else ())
