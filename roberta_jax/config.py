"""Every setting of a pretraining run, as dataclasses with units in the names.

A config file returns a `PretrainConfig` from `get_config()`; the command line overrides single
fields (`--config.optimizer.peak_learning_rate=1e-3`). No field is optional: "off" is a value that
means off, `math.inf` for a clip norm or 0 for an interval, so that every field keeps one type.
`validate()` raises `UserError` with one paragraph per mistake, before anything is compiled.
"""

import dataclasses
import json
import math
from typing import Any, get_type_hints

from roberta_jax.errors import UserError


@dataclasses.dataclass(slots=True, kw_only=True)
class DataConfig:
    """Which prepared datasets are read, and how fast."""

    path: str = ""  # Folder that `roberta-jax prepare` wrote, or several with commas between them.
    # How often rows are drawn from each of several folders, such as "3,1"; "": all rows alike.
    weights: str = ""
    sequence_length: int = 512  # Tokens per row; must be what the dataset was prepared with.
    tokenizer_fingerprint: str = ""  # The dataset must have this one; "" takes the dataset's.
    # What a token attends to: "row", or "example" of a packed row, with restarting positions;
    # "" takes the dataset's.
    attention: str = ""
    num_read_threads: int = 0  # Threads that read records ahead of the step; 0: by the cores.
    num_read_processes: int = 0  # Processes that do so instead, for slow disks; 0: this one.
    prefetch_batches: int = 2  # Batches placed on the devices before they are needed.

    def validate(self) -> None:
        _require(
            self.sequence_length >= 8,
            "data.sequence_length",
            self.sequence_length,
            "at least 8 tokens",
        )
        _one_of(self.attention, "data.attention", ("", "row", "example"))
        _require(
            self.num_read_threads >= 0, "data.num_read_threads", self.num_read_threads, "0 or more"
        )
        _require(
            self.num_read_processes >= 0,
            "data.num_read_processes",
            self.num_read_processes,
            "0 or more",
        )
        _require(
            self.prefetch_batches >= 1, "data.prefetch_batches", self.prefetch_batches, "at least 1"
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class EncoderConfig:
    """The shape of the encoder and how it computes; the defaults are RoBERTa base."""

    vocab_size: int = 0  # Entries of the tokenizer; 0 takes the dataset's.
    vocab_padding_multiple: int = 128  # The embedding table is padded up to a multiple of this.
    num_layers: int = 12
    hidden_size: int = 768
    num_heads: int = 12
    mlp_size: int = 3072
    max_positions: int = 512  # Longest row; the table has position_offset more rows.
    position_offset: int = 2  # The first token's position id. RoBERTa: pad_id + 1; BERT: 0.
    pad_id: int = 1  # RoBERTa's vocabularies have <pad> at 1, BERT's at 0.
    num_token_types: int = 0  # Rows of the token type table. RoBERTa has none, BERT 2.
    dropout_rate: float = 0.1  # After the embedding and after both sublayers.
    attention_dropout_rate: float = 0.1  # On the attention probabilities.
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02  # Standard deviation of the initial weights.
    compute_dtype: str = "bfloat16"  # Of activations and operands; parameters are float32.
    rematerialization: str = "none"  # none | dots | full: what the backward pass computes again.
    # Of jax.nn.dot_product_attention: auto | xla | cudnn. auto takes cuDNN's fused kernel on GPUs,
    # in evaluation and where attention_dropout_rate is 0: the kernel has no dropout.
    attention_implementation: str = "auto"

    def padded_vocab_size(self) -> int:
        """Rows of the embedding table: `vocab_size` rounded up to `vocab_padding_multiple`."""
        return -(-self.vocab_size // self.vocab_padding_multiple) * self.vocab_padding_multiple

    def validate(self) -> None:
        for name in (
            "vocab_padding_multiple",
            "num_layers",
            "hidden_size",
            "num_heads",
            "mlp_size",
            "max_positions",
        ):
            _require(getattr(self, name) >= 1, f"encoder.{name}", getattr(self, name), "at least 1")
        _require(
            self.vocab_size >= 0,
            "encoder.vocab_size",
            self.vocab_size,
            "a count, or 0 for the dataset's",
        )
        _require(
            self.hidden_size % self.num_heads == 0,
            "encoder.num_heads",
            self.num_heads,
            f"a divisor of encoder.hidden_size={self.hidden_size}",
        )
        for name in ("position_offset", "pad_id", "num_token_types"):
            _require(getattr(self, name) >= 0, f"encoder.{name}", getattr(self, name), "0 or more")
        for name in ("dropout_rate", "attention_dropout_rate"):
            _require(
                0 <= getattr(self, name) < 1, f"encoder.{name}", getattr(self, name), "in [0, 1)"
            )
        for name in ("layer_norm_epsilon", "initializer_range"):
            _require(getattr(self, name) > 0, f"encoder.{name}", getattr(self, name), "positive")
        _one_of(self.compute_dtype, "encoder.compute_dtype", ("bfloat16", "float32"))
        _one_of(self.rematerialization, "encoder.rematerialization", ("none", "dots", "full"))
        _one_of(
            self.attention_implementation,
            "encoder.attention_implementation",
            ("auto", "xla", "cudnn"),
        )
        _require(
            self.attention_implementation != "cudnn" or self.attention_dropout_rate == 0,
            "encoder.attention_dropout_rate",
            self.attention_dropout_rate,
            "0 with encoder.attention_implementation=cudnn: the fused kernel has no dropout",
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class MaskingConfig:
    """Which tokens are predicted (paper section 2.2 and 4.1)."""

    kind: str = "dynamic"  # dynamic: a new mask every epoch; static: the same few in turn.
    num_static_masks: int = 10  # Masks of a row under static masking.
    rate: float = 0.15  # Share of a row's maskable tokens that are predicted.
    mask_share: float = 0.8  # Of the predicted tokens, shown as <mask>.
    random_share: float = 0.1  # Shown as a random token; the rest stay as they are.
    mask_special_tokens: bool = False  # fairseq also predicts <s> and </s>; BERT does not.

    def max_masked(self, sequence_length: int) -> int:
        """M, the slots per row that reach the vocabulary projection; enough for every row."""
        return max(1, math.ceil(self.rate * sequence_length))

    def validate(self) -> None:
        _one_of(self.kind, "masking.kind", ("dynamic", "static"))
        _require(
            self.num_static_masks >= 1,
            "masking.num_static_masks",
            self.num_static_masks,
            "at least 1",
        )
        _require(0 < self.rate < 1, "masking.rate", self.rate, "in (0, 1)")
        shares = (self.mask_share, self.random_share)
        _require(
            min(shares) >= 0 and sum(shares) <= 1 + 1e-9,
            "masking.mask_share and masking.random_share",
            shares,
            "not negative, with a sum of at most 1",
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW with linear warm-up and linear decay (paper section 3.1 and table 9)."""

    peak_learning_rate: float = 6e-4
    warmup_steps: int = 24_000
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    weight_decay: float = 0.01
    decay_table: str = "bert"  # bert: not on biases and LayerNorm; fairseq: on every parameter.
    clip_global_norm: float = math.inf  # inf: no clip.

    def validate(self) -> None:
        _require(
            self.peak_learning_rate > 0,
            "optimizer.peak_learning_rate",
            self.peak_learning_rate,
            "positive",
        )
        _require(self.warmup_steps >= 0, "optimizer.warmup_steps", self.warmup_steps, "0 or more")
        for name in ("beta1", "beta2"):
            _require(
                0 <= getattr(self, name) < 1, f"optimizer.{name}", getattr(self, name), "in [0, 1)"
            )
        _require(self.epsilon > 0, "optimizer.epsilon", self.epsilon, "positive")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        _one_of(self.decay_table, "optimizer.decay_table", ("bert", "fairseq"))
        _require(
            self.clip_global_norm > 0,
            "optimizer.clip_global_norm",
            self.clip_global_norm,
            "positive, or inf",
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class MeshConfig:
    """Devices per axis; one axis may be -1 and takes what is left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def validate(self) -> None:
        sizes = (self.data, self.fsdp, self.tensor)
        _require(
            all(size >= 1 or size == -1 for size in sizes) and sizes.count(-1) <= 1,
            "mesh.data, mesh.fsdp, mesh.tensor",
            sizes,
            "positive, with at most one -1",
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class TrainConfig:
    """Length and rhythm of the run."""

    num_steps: int = 500_000  # Updates.
    batch_size: int = 8192  # Rows per update, over all devices and hosts.
    num_microbatches: int = 1  # Parts of a batch whose gradients are added before the update.
    log_every_steps: int = 50
    evaluate_every_steps: int = 1000  # 0: never during the run.
    evaluation_rows: int = 4096  # Validation rows of one evaluation, at most.

    def validate(self) -> None:
        for name in (
            "num_steps",
            "batch_size",
            "num_microbatches",
            "log_every_steps",
            "evaluation_rows",
        ):
            _require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "at least 1")
        _require(
            self.evaluate_every_steps >= 0,
            "train.evaluate_every_steps",
            self.evaluate_every_steps,
            "0 or more",
        )
        _require(
            self.batch_size % self.num_microbatches == 0,
            "train.num_microbatches",
            self.num_microbatches,
            f"a divisor of train.batch_size={self.batch_size}",
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class CheckpointConfig:
    """When a checkpoint is written and which ones stay."""

    save_every_steps: int = 1000
    keep_last: int = 2
    keep_every_steps: int = 0  # Also keep every step divisible by this; 0: none.
    keep_best: int = 1  # Also keep the ones with the lowest evaluation loss; 0: none.

    def validate(self) -> None:
        _require(
            self.save_every_steps >= 1,
            "checkpoint.save_every_steps",
            self.save_every_steps,
            "at least 1",
        )
        _require(self.keep_last >= 1, "checkpoint.keep_last", self.keep_last, "at least 1")
        _require(
            self.keep_every_steps >= 0,
            "checkpoint.keep_every_steps",
            self.keep_every_steps,
            "0 or more",
        )
        _require(self.keep_best >= 0, "checkpoint.keep_best", self.keep_best, "0 or more")


@dataclasses.dataclass(slots=True, kw_only=True)
class PretrainConfig:
    """A whole pretraining run."""

    seed: int = 0  # Data order, masks, initial weights and dropout are functions of it.
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    masking: MaskingConfig = dataclasses.field(default_factory=MaskingConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)

    def validate(self) -> None:
        """Raises UserError when a value, or two values together, cannot be used."""
        _check_types(self, "")
        _require(0 <= self.seed < 2**31, "seed", self.seed, "in [0, 2^31)")
        sections = (
            self.data,
            self.encoder,
            self.masking,
            self.optimizer,
            self.mesh,
            self.train,
            self.checkpoint,
        )
        for section in sections:
            section.validate()
        _require(
            self.data.sequence_length <= self.encoder.max_positions,
            "data.sequence_length",
            self.data.sequence_length,
            f"at most encoder.max_positions={self.encoder.max_positions}",
        )
        _require(
            self.optimizer.warmup_steps < self.train.num_steps,
            "optimizer.warmup_steps",
            self.optimizer.warmup_steps,
            f"less than train.num_steps={self.train.num_steps}",
        )


def to_dict(config: Any) -> dict[str, Any]:
    """The config as nested dicts that JSON can hold; infinity becomes the string "inf"."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return "inf" if value == math.inf else value

    return plain(dataclasses.asdict(config))


def from_dict(cls: type, values: dict[str, Any]) -> Any:
    """The inverse of `to_dict`.

    A key that is missing, because an older version wrote the values, takes its default. Unknown
    keys raise UserError naming them.
    """
    hints = get_type_hints(cls)
    if not isinstance(values, dict) or set(values) - set(hints):
        unknown = sorted(set(values) - set(hints)) if isinstance(values, dict) else values
        raise UserError(
            f"The stored {cls.__name__} has keys that this version of roberta_jax does not know: "
            f"{unknown}. Use the version that wrote it, or start a new workdir."
        )
    fields = {}
    for name, value in values.items():
        kind = hints[name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            fields[name] = from_dict(kind, value)
        else:
            fields[name] = math.inf if value == "inf" else value
    return cls(**fields)


def dumps(config: Any) -> str:
    """The config as indented JSON text, as stored in `config.json`."""
    return json.dumps(to_dict(config), indent=2) + "\n"


def field_paths(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every leaf field as {"encoder.num_layers": 12, …}, in the order of declaration."""
    paths: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = f"{prefix}{field.name}"
        paths.update(
            field_paths(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value}
        )
    return paths


def _check_types(config: Any, prefix: str) -> None:
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(kind):
            _check_types(value, f"{prefix}{name}.")
        elif kind is float and isinstance(value, int) and not isinstance(value, bool):
            setattr(config, name, float(value))  # `1` is a fine way to write a rate.
        elif type(value) is not kind:
            raise UserError(
                f"config.{prefix}{name} is {value!r}; it must be of type {kind.__name__}."
            )


def _require(condition: bool, name: str, value: Any, allowed: str) -> None:
    if not condition:
        raise UserError(f"config.{name} is {value}; it must be {allowed}.")


def _one_of(value: str, name: str, allowed: tuple[str, ...]) -> None:
    _require(value in allowed, name, repr(value), "one of " + ", ".join(allowed))
