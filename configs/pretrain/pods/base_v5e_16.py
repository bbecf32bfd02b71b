r"""RoBERTa base as published, on 16 TPU v5e chips (v5e:4x4).

Command    roberta-jax dryrun --config=configs/pretrain/pods/base_v5e_16.py --topology=v5e:4x4
           roberta-jax pretrain --config=configs/pretrain/pods/base_v5e_16.py \
             --config.data.path=DATASET --workdir=runs/base
Hardware   16 TPU v5e chips (v5e:4x4); 8 microbatches of 1,024 rows, 64 a chip. The
           dry run needs 4.75 of 15.75 GiB and tells 7 to 19 days. Not measured: never run.
Data       as base.py
Result     as base.py
Source     arXiv 1907.11692; everything but the microbatches is base.py
"""

import pathlib
import runpy

from roberta_jax import config as c


def get_config() -> c.PretrainConfig:
    """The recipe of base.py, with the microbatches of this pod."""
    recipe = pathlib.Path(__file__).parents[1] / "base.py"
    config: c.PretrainConfig = runpy.run_path(str(recipe))["get_config"]()
    config.train.num_microbatches = 8
    return config
