"""A fine-tuning run: which task, which rows, how it is trained (paper section 5, appendix)."""

import dataclasses
import math

from roberta_jax.config.checks import check_types, one_of, require
from roberta_jax.config.duration import Duration
from roberta_jax.config.optimization import OptimizerConfig, ScheduleConfig
from roberta_jax.config.training import MeshConfig
from roberta_jax.errors import UserError

TABLE_KINDS = ("classification", "regression", "tokens")


@dataclasses.dataclass(slots=True, kw_only=True)
class TaskDataConfig:
    """Where the examples of a task are, and how they become rows."""

    path: str = ""  # Folder of a published task, or tfds:NAME/CONFIG.
    # The first so many of the training rows in an order that depends on the run's seed only, so
    # that 1% is part of 10%.
    train_share: float = 1.0
    max_length: int = 0  # Tokens of a row; 0: what the model takes, at most 512.
    window_stride: int = 128  # Of span: tokens between the beginnings of two windows.
    max_question_tokens: int = 64  # Of span.
    max_option_tokens: int = 128  # Of choice: question and option together.

    def validate(self) -> None:
        require(0 < self.train_share <= 1, "data.train_share", self.train_share, "in (0, 1]")
        require(
            self.max_length == 0 or self.max_length >= 8,
            "data.max_length",
            self.max_length,
            "at least 8 tokens, or 0",
        )
        for name in ("window_stride", "max_question_tokens", "max_option_tokens"):
            require(getattr(self, name) >= 1, f"data.{name}", getattr(self, name), "at least 1")


@dataclasses.dataclass(slots=True, kw_only=True)
class TableConfig:
    """A table of the user's own, where the task is none of the published ones."""

    kind: str = "classification"  # classification | regression | tokens
    train: str = ""  # Files: TSV, CSV, JSON lines or Parquet.
    dev: str = ""
    test: str = ""
    dev_fraction: float = 0.1  # Of the training rows, where there is no file for dev.
    text: str = "text"  # Names of the columns.
    text_pair: str = ""  # The second text; "": there is one.
    label: str = "label"

    def validate(self) -> None:
        one_of(self.kind, "table.kind", TABLE_KINDS)
        require(
            0 < self.dev_fraction < 1, "table.dev_fraction", self.dev_fraction, "between 0 and 1"
        )
        require(
            self.kind != "tokens" or not self.text_pair,
            "table.text_pair",
            repr(self.text_pair),
            '"" for tokens, which have one text',
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class TaskModelConfig:
    """The encoder as it is trained for a task; its shape is that of the model it begins with."""

    random_weights: bool = False  # Begin with drawn weights instead, to see what pretraining gave.
    embedding_dropout_rate: float = 0.1
    dropout_rate: float = 0.1
    attention_dropout_rate: float = 0.1
    head_dropout_rate: float = 0.1
    compute_dtype: str = "auto"  # auto: bfloat16 on GPUs and TPUs, float32 on CPUs.
    rematerialization: str = "none"

    def validate(self) -> None:
        for name in (
            "embedding_dropout_rate",
            "dropout_rate",
            "attention_dropout_rate",
            "head_dropout_rate",
        ):
            require(0 <= getattr(self, name) < 1, f"model.{name}", getattr(self, name), "in [0, 1)")
        one_of(self.compute_dtype, "model.compute_dtype", ("auto", "bfloat16", "float32"))
        one_of(self.rematerialization, "model.rematerialization", ("none", "dots", "full"))


@dataclasses.dataclass(slots=True, kw_only=True)
class FitConfig:
    """Length, rhythm and sweep."""

    epochs: float = 10.0
    batch_size: int = 16  # Examples of an update.
    # A sweep: all pairs of these, such as "1e-5,2e-5,3e-5" and "16,32"; "": the one rate
    # (optimizer.peak_learning_rate), the one batch_size.
    learning_rates: str = ""
    batch_sizes: str = ""
    # Seeds that are trained side by side as one program; 0: all where the model is small (less
    # than 20M parameters), else one after the other.
    seeds_at_once: int = 0
    evaluations_per_epoch: int = 1  # On the dev rows; the best of them counts.
    log_every_steps: int = 50
    # What a kill costs at most; an interrupt saves by itself. A checkpoint holds the weights and
    # moments of all seeds, so tiny runs have none before their end.
    save_every_steps: int = 500

    def validate(self) -> None:
        require(0 < self.epochs < math.inf, "fit.epochs", self.epochs, "positive")
        for name in (
            "batch_size",
            "evaluations_per_epoch",
            "log_every_steps",
            "save_every_steps",
        ):
            require(getattr(self, name) >= 1, f"fit.{name}", getattr(self, name), "at least 1")
        require(self.seeds_at_once >= 0, "fit.seeds_at_once", self.seeds_at_once, "0 or more")


@dataclasses.dataclass(slots=True, kw_only=True)
class FinetuneConfig:
    """A fine-tuning run; the defaults are RoBERTa's for GLUE (paper, table 10)."""

    task: str = ""  # A published task, such as sst2, squad2 or race; "": the table.
    seed: int = 0  # The first one: new weights, order of the rows and dropout depend on it.
    num_seeds: int = 1  # Runs with seed, seed + 1, …; their median counts.
    data: TaskDataConfig = dataclasses.field(default_factory=TaskDataConfig)
    table: TableConfig = dataclasses.field(default_factory=TableConfig)
    model: TaskModelConfig = dataclasses.field(default_factory=TaskModelConfig)
    optimizer: OptimizerConfig = dataclasses.field(
        default_factory=lambda: OptimizerConfig(peak_learning_rate=2e-5, weight_decay=0.1)
    )
    schedule: ScheduleConfig = dataclasses.field(
        default_factory=lambda: ScheduleConfig(warmup="6%")
    )
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    fit: FitConfig = dataclasses.field(default_factory=FitConfig)

    def rates(self) -> tuple[float, ...]:
        """The learning rates of the sweep."""
        if not self.fit.learning_rates:
            return (self.optimizer.peak_learning_rate,)
        return _numbers(self.fit.learning_rates, "fit.learning_rates", float)

    def batches(self) -> tuple[int, ...]:
        """The batch sizes of the sweep."""
        if not self.fit.batch_sizes:
            return (self.fit.batch_size,)
        return _numbers(self.fit.batch_sizes, "fit.batch_sizes", int)

    def seeds(self) -> tuple[int, ...]:
        """All seeds."""
        return tuple(range(self.seed, self.seed + self.num_seeds))

    def validate(self) -> None:
        """Raises UserError when a value, or two values together, cannot be used."""
        check_types(self)
        require(0 <= self.seed < 2**30, "seed", self.seed, "in [0, 2^30)")
        require(1 <= self.num_seeds <= 1000, "num_seeds", self.num_seeds, "1 to 1000")
        for section in (
            self.data,
            self.table,
            self.model,
            self.optimizer,
            self.schedule,
            self.mesh,
            self.fit,
        ):
            section.validate()
        self.rates()
        self.batches()
        for name in ("warmup", "decay"):
            length = getattr(self.schedule, name)
            require(
                Duration.parse(length, f"schedule.{name}").unit != "tokens",
                f"schedule.{name}",
                repr(length),
                "in %, steps or epochs: rows have unlike lengths",
            )
        # What a fine-tuning run has no use for is refused, not ignored.
        require(
            self.optimizer.average_decay == 0,
            "optimizer.average_decay",
            self.optimizer.average_decay,
            "0: the best evaluation decides which weights are kept",
        )
        sizes = (self.mesh.fsdp, self.mesh.tensor, self.mesh.context)
        require(
            sizes == (1, 1, 1),
            "mesh.fsdp, mesh.tensor, mesh.context",
            sizes,
            "1: fine-tuning splits the rows of a batch only, over mesh.data",
        )


def _numbers(text: str, name: str, kind: type) -> tuple:
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(
            f"config.{name} is {text!r}; it must be numbers with commas between them, such as "
            + ("1e-5,2e-5,3e-5." if kind is float else "16,32.")
        ) from error
    require(all(0 < value < math.inf for value in values), name, repr(text), "positive numbers")
    require(len(set(values)) == len(values), name, repr(text), "without repetitions")
    return values
