"""A model that was loaded once and is asked many times."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from roberta_jax.config import EncoderConfig, MeshConfig
from roberta_jax.data.output_folder import local_path
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.encoder.model import Params, bind
from roberta_jax.errors import UserError
from roberta_jax.inference.rows import batches, checked_length, rows_of
from roberta_jax.inference.source import open_source
from roberta_jax.parallel.mesh import make_mesh

TOKENS_PER_BATCH = 4096
LOGIT_TOKENS_PER_BATCH = 1024  # With RoBERTa's vocabulary, 200 MB of logits.
MASKED_ROWS = 4096  # Rows with one hole each that are made at a time.
MASK = "<mask>"  # What every model understands in a text, whatever its own mask is called.


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A token in the place of a mask."""

    token: str  # As text, with the blank before it if it begins a word.
    probability: float


@dataclasses.dataclass(frozen=True)
class Features:
    """What the encoder makes of N texts.

    Attributes:
      sentence: [N, D] float32, the mean over the states of a text's tokens, special ones included.
      tokens: [N, T, D] float32, the states of the last layer; 0 at padding.
      ids: [N, T] int32, with special ids; T is that of the longest text.
      attention_mask: [N, T] bool, False at padding.
    """

    sentence: np.ndarray
    tokens: np.ndarray
    ids: np.ndarray
    attention_mask: np.ndarray


@dataclasses.dataclass(frozen=True)
class ScoredToken:
    """A token of a text, and how well the others foretell it."""

    token: str  # As text, with the blank before it if it begins a word.
    log_probability: float  # Nats, of the token in its place when that is masked.


class Model:
    """A masked language model; computes in float32.

    Attributes:
      config: its encoder.
      tokenizer: its vocabulary.
      step: updates of the checkpoint; 0 for a model that was not trained here.
      max_tokens: of a text, `<s>` and `</s>` included.
    """

    def __init__(
        self, config: EncoderConfig, params: Params, tokenizer: Tokenizer, mesh: Mesh, step: int
    ):
        """Use `load`."""
        config = dataclasses.replace(config, compute_dtype="float32", rematerialization="none")
        self.config, self.tokenizer, self.step = config, tokenizer, step
        self.max_tokens = config.max_positions
        self._params, self._mesh = params, mesh

        # What comes and goes is whole on every device: a few rows may not divide over them.
        self._whole = NamedSharding(mesh, P())
        whole = functools.partial(jax.jit, out_shardings=self._whole)

        @whole
        def states(params: Params, tokens: jax.Array) -> jax.Array:
            return bind(config, params).states(tokens)

        @whole
        def logits(params: Params, tokens: jax.Array, attention_mask: jax.Array) -> jax.Array:
            model = bind(config, params)
            states = model.states(tokens, attention_mask=attention_mask)
            return model.project(states)[..., : config.vocab_size]

        @whole
        def log_probabilities(params: Params, tokens: jax.Array, places: jax.Array) -> jax.Array:
            chosen = bind(config, params)(tokens, places)
            return jax.nn.log_softmax(chosen[..., : config.vocab_size], axis=-1)

        @whole
        def log_probability(
            params: Params, tokens: jax.Array, places: jax.Array, targets: jax.Array
        ) -> jax.Array:
            found = log_probabilities(params, tokens, places)
            return jnp.take_along_axis(found, targets[..., None], axis=-1)[..., 0]  # [B, M]

        @whole
        def attention(params: Params, tokens: jax.Array) -> jax.Array:
            return bind(config, params).trace(tokens)[1]

        self._states, self._logits = states, logits
        self._log_probabilities, self._log_probability = log_probabilities, log_probability
        self._attention = attention

    def encode(self, texts: Sequence[str], *, strict: bool = False) -> Features:
        """Features of texts.

        Args:
          texts: any number.
          strict: refuse a text that is too long, instead of cutting it with a TruncationWarning.

        Raises:
          UserError: a text is too long (`strict`) or not valid Unicode, or `texts` is no list.
        """
        rows = rows_of(texts, self.tokenizer, self.max_tokens, strict=strict)
        longest = max(map(len, rows), default=0)
        ids = np.full((len(rows), longest), self.tokenizer.pad_id, np.int32)
        tokens = np.zeros((len(rows), longest, self.config.hidden_size), np.float32)
        for numbers, batch in self._batches(rows):
            states = np.asarray(self._run(self._states, batch))
            for place, number in enumerate(numbers):
                length = len(rows[number])
                ids[number, :length] = rows[number]
                tokens[number, :length] = states[place, :length]
        mask = np.arange(longest) < np.array([len(row) for row in rows], np.int64)[:, None]
        sentence = tokens.sum(axis=1) / np.maximum(mask.sum(axis=1, keepdims=True), 1)
        return Features(sentence.astype(np.float32), tokens, ids, mask)

    def logits(self, ids: np.ndarray, attention_mask: np.ndarray | None = None) -> np.ndarray:
        """Scores of every token of the vocabulary in every place.

        Args:
          ids: [B, T] ints, with special ids; padding has `tokenizer.pad_id`.
          attention_mask: [B, T], 0 or False where nothing is to be attended to; None: at padding.

        Returns:
          [B, T, V] float32, V = `config.vocab_size`.

        Raises:
          UserError: ids outside the vocabulary, rows that are too long, or other shapes and types.
        """
        ids = self._checked_ids(ids)
        mask = ids != self.config.pad_id if attention_mask is None else np.asarray(attention_mask)
        if mask.shape != ids.shape:
            raise UserError(
                f"attention_mask has the shape {mask.shape}, and ids {ids.shape}; they must be "
                "equal."
            )
        rows, length = ids.shape
        result = np.empty((rows, length, self.config.vocab_size), np.float32)
        # Every row has the same length, so the batches come in order.
        for numbers, batch in self._batches(list(ids), tokens_per_batch=LOGIT_TOKENS_PER_BATCH):
            visible = np.zeros(batch.shape, bool)
            visible[: len(numbers), :length] = mask[numbers]
            scores = np.asarray(self._run(self._logits, batch, visible))
            result[numbers] = scores[: len(numbers), :length]
        return result

    def fill_mask(
        self, text: str, top_k: int = 5, *, strict: bool = False
    ) -> list[list[Candidate]]:
        """The `top_k` most probable tokens of every `<mask>` in a text, best first.

        Special tokens are no candidates: training never asks for them.

        Args:
          text: with `<mask>` where a word is missing.
          top_k: candidates for each mask.
          strict: refuse a text that is too long, instead of cutting it with a TruncationWarning.

        Raises:
          UserError: there is no mask, or the text is too long (`strict`) or not valid Unicode.
        """
        tokenizer = self.tokenizer
        if not isinstance(text, str):
            raise UserError(f"Give one text at a time; this is a {type(text).__name__}.")
        if type(top_k) is not int or top_k < 1:
            raise UserError(f"top_k is {top_k!r}; it must be a whole number of at least 1.")
        if MASK not in text and tokenizer.mask_token not in text:
            raise UserError(f"The text {text!r} has no {MASK}; write it where a word is missing.")
        ids = tokenizer.row(tokenizer.encode_with_masks(text.replace(MASK, tokenizer.mask_token)))
        ids = checked_length(ids, self.max_tokens, strict=strict)
        places = [place for place, token in enumerate(ids) if token == tokenizer.mask_id]
        if not places:
            raise UserError(
                f"No {MASK} is within the first {self.max_tokens:,} tokens of the text, which are "
                "all that this model takes. Shorten it."
            )
        ((_, batch),) = self._batches([ids])
        # As many places as a power of two: few programs are compiled.
        filled = np.zeros((1, 1 << (len(places) - 1).bit_length()), np.int32)
        filled[0, : len(places)] = places
        found = np.asarray(self._run(self._log_probabilities, batch, filled))
        scores = found[0, : len(places)].copy()  # [M, V]
        scores[:, list(tokenizer.special_ids)] = -np.inf
        scores[:, tokenizer.vocab_size :] = -np.inf  # Rows of the model without a token.
        top_k = min(top_k, tokenizer.vocab_size - len(tokenizer.special_ids))
        best = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]
        return [
            [Candidate(tokenizer.token_text(i), float(np.exp(row[i]))) for i in tokens.tolist()]
            for row, tokens in zip(scores, best, strict=True)
        ]

    def score_tokens(
        self, texts: Sequence[str], *, strict: bool = False
    ) -> list[list[ScoredToken]]:
        """How probable every token is when it alone is masked (arXiv 1910.14659, equation 2).

        A text is read once for every token. Raises as `encode`.
        """
        rows = rows_of(texts, self.tokenizer, self.max_tokens, strict=strict)
        places = [(row, place) for row in rows for place in range(1, len(row) - 1)]
        found = [
            self._log_probabilities_of(places[begin : begin + MASKED_ROWS])
            for begin in range(0, len(places), MASKED_ROWS)
        ]
        scores = iter(np.concatenate(found).tolist() if found else [])
        return [
            [ScoredToken(self.tokenizer.token_text(i), next(scores)) for i in row[1:-1]]
            for row in rows
        ]

    def perplexity(self, texts: Sequence[str], *, strict: bool = False) -> np.ndarray:
        """Pseudo-perplexity of every text: exp of the mean loss of `score_tokens`.

        Returns:
          [N] float64; nan for a text without tokens. Raises as `encode`.
        """
        return np.array(
            [
                np.exp(-np.mean([token.log_probability for token in tokens])) if tokens else np.nan
                for tokens in self.score_tokens(texts, strict=strict)
            ]
        )

    def attention(self, text: str, *, strict: bool = False) -> tuple[list[str], np.ndarray]:
        """Who attends to whom.

        Returns:
          The T tokens as text, special ones spelled, and the probabilities [L, H, T, T] float32:
          of every layer and head, from the third axis to the fourth.
        """
        (row,) = rows_of([text], self.tokenizer, self.max_tokens, strict=strict)
        ((_, batch),) = self._batches([row])
        weights = np.asarray(self._run(self._attention, batch))[:, 0]
        return [self.tokenizer.token_text(i) for i in row], weights[..., : len(row), : len(row)]

    def _log_probabilities_of(self, places: Sequence[tuple[list[int], int]]) -> np.ndarray:
        """Log probability [n] of the token of each row at its place, which is masked."""
        mask_id = self.tokenizer.mask_id
        masked = [[*row[:place], mask_id, *row[place + 1 :]] for row, place in places]
        found = np.empty(len(masked))
        for numbers, batch in self._batches(masked):
            hole = np.zeros((len(batch), 1), np.int32)
            target = np.zeros((len(batch), 1), np.int32)
            for line, number in enumerate(numbers):
                row, place = places[number]
                hole[line], target[line] = place, row[place]
            values = np.asarray(self._run(self._log_probability, batch, hole, target))
            found[numbers] = values[: len(numbers), 0]
        return found

    def _batches(
        self, rows: Sequence[Sequence[int]], *, tokens_per_batch: int = TOKENS_PER_BATCH
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return batches(
            rows,
            pad_id=self.config.pad_id,
            limit=self.max_tokens,
            tokens_per_batch=tokens_per_batch,
        )

    def _run(self, function: Callable[..., jax.Array], *arrays: np.ndarray) -> jax.Array:
        with jax.set_mesh(self._mesh):
            return function(self._params, *jax.device_put(arrays, self._whole))

    def _checked_ids(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids)
        if ids.ndim != 2 or ids.dtype.kind not in "iu":
            raise UserError(
                f"ids must be whole numbers [rows, tokens]; they are {ids.dtype} {list(ids.shape)}."
            )
        if ids.shape[1] > self.max_tokens:
            raise UserError(
                f"The rows have {ids.shape[1]:,} tokens; this model takes at most "
                f"{self.max_tokens:,}."
            )
        if ids.size and not (ids.min() >= 0 and ids.max() < self.config.vocab_size):
            raise UserError(
                f"ids must be from 0 to {self.config.vocab_size - 1:,}; they go from {ids.min():,} "
                f"to {ids.max():,}."
            )
        return ids.astype(np.int32)


def load(path: str | pathlib.Path, *, step: int = -1) -> Model:
    """Loads a masked language model.

    Args:
      path: a workdir, or a Hugging Face or fairseq folder.
      step: which checkpoint of a workdir; -1 for the newest.

    Raises:
      UserError: it is neither, or incomplete or damaged.
    """
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        config, params, tokenizer, chosen = open_source(local_path(path), mesh, step=step)
    return Model(config.encoder, params, tokenizer, mesh, chosen)
