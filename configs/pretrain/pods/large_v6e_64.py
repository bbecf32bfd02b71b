r"""RoBERTa large as published, on 64 TPU v6e chips (v6e:8x8).

Command    roberta-jax dryrun --config=configs/pretrain/pods/large_v6e_64.py --topology=v6e:8x8
           roberta-jax pretrain --config=configs/pretrain/pods/large_v6e_64.py \
             --config.data.path=DATASET --workdir=runs/large
Hardware   64 TPU v6e chips (v6e:8x8); 8,192 rows at once, 128 a chip. The dry run
           needs 11.23 of 31.25 GiB and tells at most 6.6 days. Not measured: never run.
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
