r"""RoBERTa large as published, on 256 TPU v5e chips (v5e:16x16).

Command    roberta-jax dryrun --config=configs/pretrain/pods/large_v5e_256.py --topology=v5e:16x16
           roberta-jax pretrain --config=configs/pretrain/pods/large_v5e_256.py \
             --config.data.path=DATASET --workdir=runs/large
Hardware   256 TPU v5e chips (v5e:16x16); 2 microbatches of 4,096 rows, 16 a chip. The
           dry run needs 7.01 of 15.75 GiB and tells 1.3 to 4.2 days. Not measured: never run.
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
    config.train.num_microbatches = 2
    return config
