r"""RoBERTa tiny: 2 layers x 128, the model of `roberta-jax demo`.

Command    roberta-jax demo
           or, on other text prepared with --sequence_length=64:
           roberta-jax pretrain --config=configs/pretrain/tiny.py \
             --config.data.path=DATASET --workdir=runs/tiny
Hardware   2 CPU cores; README.md has the time and the result of the demo
Source     none published at this size; betas, epsilon, decay and masking are RoBERTa's (paper,
           table 9), warm-up and rate are ours

1,000 steps x 64 rows x 64 tokens = 4.1M tokens.
"""

from roberta_jax import config as c
from roberta_jax.demo import demo_config


def get_config() -> c.PretrainConfig:
    """The recipe, kept in the package because the demo needs no checkout."""
    return demo_config()
