"""Every setting of a run, as dataclasses with units in the names.

In: a recipe, whose `get_config()` returns a `PretrainConfig`, and single fields from the command
line (`--config.optimizer.peak_learning_rate=1e-3`). Out: checked values. No field is optional:
"off" is a value that means off, `math.inf` for a clip norm or 0 for an interval, so that every
field keeps one type. `validate()` raises `UserError` with one paragraph, before anything compiles.

- `pretraining`: `PretrainConfig`, all sections together; `finetuning`: `FinetuneConfig`.
- `inputs`, `encoder`, `objective`, `optimization`, `training`: the sections.
- `probing`: a task that is looked at meanwhile.
- `duration`: "500000 steps", "2e9 tokens", "40 epochs", "10%".
- `storage`: a config as JSON, and back.
- `checks`: how a refusal is worded.
"""

from roberta_jax.config.duration import Duration
from roberta_jax.config.encoder import EncoderConfig
from roberta_jax.config.finetuning import (
    FinetuneConfig,
    FitConfig,
    TableConfig,
    TaskDataConfig,
    TaskModelConfig,
)
from roberta_jax.config.inputs import DataConfig, MaskingConfig
from roberta_jax.config.objective import ObjectiveConfig
from roberta_jax.config.optimization import OptimizerConfig, ScheduleConfig
from roberta_jax.config.pretraining import PretrainConfig
from roberta_jax.config.probing import ProbeConfig
from roberta_jax.config.storage import dumps, field_paths, from_dict, set_field, to_dict
from roberta_jax.config.training import (
    CheckpointConfig,
    DivergenceConfig,
    MeshConfig,
    PhaseConfig,
    TrainConfig,
)

__all__ = [
    "CheckpointConfig",
    "DataConfig",
    "DivergenceConfig",
    "Duration",
    "EncoderConfig",
    "FinetuneConfig",
    "FitConfig",
    "MaskingConfig",
    "MeshConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "PhaseConfig",
    "PretrainConfig",
    "ProbeConfig",
    "TableConfig",
    "TaskDataConfig",
    "TaskModelConfig",
    "ScheduleConfig",
    "TrainConfig",
    "dumps",
    "field_paths",
    "from_dict",
    "set_field",
    "to_dict",
]
