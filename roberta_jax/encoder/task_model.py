"""The encoder with the head of a task: classification, multiple choice, spans, labelled tokens."""

import dataclasses

import jax
from flax import nnx

from roberta_jax.config import EncoderConfig
from roberta_jax.encoder.dropout import site_keys
from roberta_jax.encoder.heads import SentenceHead, TokenHead
from roberta_jax.encoder.model import Encoder, Params, bind_weights, weights_of

# What a task asks of a row: one of C classes (or one number), a score as one of several choices,
# the first and the last token of an answer, a class for every token.
TASKS = ("classification", "choice", "span", "tokens")
# Those whose head reads `<s>`: a `SentenceHead`.
SENTENCE_TASKS = ("classification", "choice")
# The number of the dropout site of the head; those of the layers are small numbers.
_HEAD_SITE = 2**20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TaskHead:
    """Which head.

    Attributes:
      task: one of TASKS.
      num_outputs: classes; 1 for choice, 2 for span.
      dropout_rate: on what the head projects.
      answerable: of span: beside it, a classifier on `<s>` tells whether the row has an answer
        (paper section 5.2).
    """

    task: str
    num_outputs: int
    dropout_rate: float = 0.1
    answerable: bool = False

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task is {self.task!r}; it must be one of {', '.join(TASKS)}.")
        only = {"choice": 1, "span": 2}.get(self.task, self.num_outputs)
        if self.num_outputs != only or only < 1:
            raise ValueError(f"num_outputs is {self.num_outputs}; {self.task} has {max(only, 1)}.")
        if self.answerable and self.task != "span":
            raise ValueError(f"answerable belongs to span, not to {self.task}.")


class TaskModel(Encoder):
    """The encoder with the head of a task."""

    def __init__(self, config: EncoderConfig, head: TaskHead, *, key: jax.Array):
        """Draws the initial weights from `key`."""
        embedding_key, layers_key, head_key = jax.random.split(key, 3)
        super().__init__(config, embedding_key=embedding_key, layers_key=layers_key)
        rngs, outputs, rate = nnx.Rngs(head_key), head.num_outputs, head.dropout_rate
        if head.task in SENTENCE_TASKS:
            # RoBERTa drops the vector of `<s>` before the dense layer of its classifier, but not
            # before the pooler, on which its multiple choice, and all of BERT, is built.
            pooled = head.task == "choice" or config.position_offset == 0
            self.head: SentenceHead | TokenHead = SentenceHead(
                config, outputs, rate, drop_input=not pooled, rngs=rngs
            )
        else:
            # Spans are projected without dropout.
            rate = 0.0 if head.task == "span" else rate
            self.head = TokenHead(config, outputs, rate, rngs=rngs)
        if head.answerable:
            own = nnx.Rngs(jax.random.fold_in(key, 3))  # See `MaskedLanguageModel`.
            self.answerable_head = SentenceHead(
                config, 1, head.dropout_rate, drop_input=True, rngs=own
            )

    def __call__(
        self,
        tokens: jax.Array,
        keys: jax.Array | None = None,
        *,
        token_types: jax.Array | None = None,
    ) -> jax.Array:
        """Scores of rows.

        Args:
          tokens: [B, T] int; for choice, every choice is a row.
          keys: dropout keys [B] uint32, or None.
          token_types: [B, T] int32, for a model that has them.

        Returns:
          [B, C] float32 for classification and choice, [B, T, C] for spans (C = 2: first, last)
          and tokens.
        """
        return self.outputs(tokens, keys, token_types=token_types)[0]

    def outputs(
        self,
        tokens: jax.Array,
        keys: jax.Array | None = None,
        *,
        token_types: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array | None]:
        """The scores of the call, and [B] float32, the logit of "the row has an answer".

        The second is None for a head that is not `answerable`.
        """
        states = self.states(tokens, keys, token_types=token_types)
        scores = self.head(states, site_keys(keys, _HEAD_SITE))
        if not hasattr(self, "answerable_head"):
            return scores, None
        return scores, self.answerable_head(states, site_keys(keys, _HEAD_SITE + 1))[:, 0]


def init_task_params(config: EncoderConfig, head: TaskHead, key: jax.Array) -> Params:
    """Initial weights as a nested dict of float32 arrays."""
    return weights_of(TaskModel(config, head, key=key))


def abstract_task_params(config: EncoderConfig, head: TaskHead) -> Params:
    """The shapes of the weights, without making them."""
    return jax.eval_shape(lambda: init_task_params(config, head, jax.random.key(0)))


def bind_task(config: EncoderConfig, head: TaskHead, params: Params) -> TaskModel:
    """The model whose weights are `params`; call it in a trace."""
    return bind_weights(lambda: TaskModel(config, head, key=jax.random.key(0)), params)
