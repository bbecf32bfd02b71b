"""The shape of the encoder."""

import dataclasses
import math

from roberta_jax.config.checks import one_of, require


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
    # A pooler and a two-way head on `<s>`, trained to tell whether the second segment of a pair
    # follows the first (BERT); needs a dataset of pairs.
    next_sentence_head: bool = False
    embedding_dropout_rate: float = 0.1  # After the embedding.
    dropout_rate: float = 0.1  # After both sublayers of every layer.
    attention_dropout_rate: float = 0.1  # On the attention probabilities.
    activation_dropout_rate: float = 0.0  # After the GELU inside every layer.
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
            require(getattr(self, name) >= 1, f"encoder.{name}", getattr(self, name), "at least 1")
        require(
            self.vocab_size >= 0,
            "encoder.vocab_size",
            self.vocab_size,
            "a count, or 0 for the dataset's",
        )
        require(
            self.hidden_size % self.num_heads == 0,
            "encoder.num_heads",
            self.num_heads,
            f"a divisor of encoder.hidden_size={self.hidden_size}",
        )
        for name in ("position_offset", "pad_id", "num_token_types"):
            require(getattr(self, name) >= 0, f"encoder.{name}", getattr(self, name), "0 or more")
        for name in (
            "embedding_dropout_rate",
            "dropout_rate",
            "attention_dropout_rate",
            "activation_dropout_rate",
        ):
            require(
                0 <= getattr(self, name) < 1, f"encoder.{name}", getattr(self, name), "in [0, 1)"
            )
        for name in ("layer_norm_epsilon", "initializer_range"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"encoder.{name}", value, "positive")
        one_of(self.compute_dtype, "encoder.compute_dtype", ("bfloat16", "float32"))
        one_of(self.rematerialization, "encoder.rematerialization", ("none", "dots", "full"))
        one_of(
            self.attention_implementation,
            "encoder.attention_implementation",
            ("auto", "xla", "cudnn"),
        )
        require(
            self.attention_implementation != "cudnn" or self.attention_dropout_rate == 0,
            "encoder.attention_dropout_rate",
            self.attention_dropout_rate,
            "0 with encoder.attention_implementation=cudnn: the fused kernel has no dropout",
        )
