r"""RoBERTa large as published, on 64 TPU v5p chips (v5p:4x4x4).

Command    roberta-jax dryrun --config=configs/pretrain/pods/large_v5p_64.py --topology=v5p:4x4x4
           roberta-jax pretrain --config=configs/pretrain/pods/large_v5p_64.py \
             --config.data.path=DATASET --workdir=runs/large
Hardware   64 TPU v5p chips (v5p:4x4x4); 8,192 rows at once, 128 a chip. The dry run
           needs 11.27 of 95.74 GiB and tells at most 7.5 days. Not measured: never run.
Data       as large.py
Result     as large.py
Source     arXiv 1907.11692; everything but the microbatches is large.py
"""

import pathlib
import runpy

from roberta_jax import config as c


def get_config() -> c.PretrainConfig:
    """The recipe of large.py, with the microbatches of this pod."""
    recipe = pathlib.Path(__file__).parents[1] / "large.py"
    config: c.PretrainConfig = runpy.run_path(str(recipe))["get_config"]()
    config.train.num_microbatches = 1
    return config
