"""Candidates for the masks of a text."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from roberta_jax.config import MeshConfig
from roberta_jax.data.output_folder import local_path
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.data.transformers_layout import MASK_TOKEN
from roberta_jax.encoder.model import bind
from roberta_jax.errors import UserError
from roberta_jax.parallel.mesh import make_mesh
from roberta_jax.train.restore import load_run
from roberta_jax.train.workdir import TOKENIZER_FOLDER


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A token in the place of a mask."""

    token: str  # As text, with the blank before it if it begins a word.
    probability: float


class MaskFiller:
    """A model of a workdir, loaded once, asked many times."""

    def __init__(self, workdir: str | Path, *, step: int = -1):
        """Loads the weights of `step` (-1: the newest checkpoint)."""
        workdir = local_path(workdir)
        self._mesh = make_mesh(MeshConfig())
        with jax.set_mesh(self._mesh):
            self._config, self._params, self.step = load_run(workdir, self._mesh, step=step)
        self.tokenizer: Tokenizer = load_tokenizer(workdir / TOKENIZER_FOLDER)
        wanted = self._config.data.tokenizer_fingerprint
        if self.tokenizer.fingerprint != wanted:
            raise UserError(
                f"{workdir / TOKENIZER_FOLDER} holds the tokenizer {self.tokenizer.fingerprint}, "
                f"and the model was trained with {wanted}. Bring that one back, from the dataset "
                "of the run for example."
            )
        encoder = self._config.encoder

        @jax.jit
        def probabilities(params: dict, tokens: jax.Array, positions: jax.Array) -> jax.Array:
            logits = bind(encoder, params)(tokens, positions)  # [1, M, V]
            return jax.nn.softmax(logits[0, :, : encoder.vocab_size], axis=-1)

        self._probabilities = probabilities

    def __call__(self, text: str, *, top_k: int = 5) -> list[list[Candidate]]:
        """The `top_k` most probable tokens of every `<mask>` in `text`, best first.

        Raises:
          UserError: no mask, or the text is longer than the model allows.
        """
        if MASK_TOKEN not in text:
            raise UserError(
                f"The text {text!r} has no {MASK_TOKEN}; write {MASK_TOKEN} where a word is "
                "missing."
            )
        tokenizer = self.tokenizer
        ids = [tokenizer.bos_id, *tokenizer.encode_with_masks(text), tokenizer.eos_id]
        limit = self._config.encoder.max_positions
        if len(ids) > limit:
            raise UserError(
                f"The text has {len(ids)} tokens; this model takes at most {limit}. Shorten it."
            )
        places = [place for place, token in enumerate(ids) if token == tokenizer.mask_id]
        # Lengths rounded up, so that few programs are compiled.
        length = min(limit, -(-len(ids) // 32) * 32)
        padded = np.full((1, length), tokenizer.pad_id, np.int32)
        padded[0, : len(ids)] = ids
        with jax.set_mesh(self._mesh):
            probabilities = np.array(
                self._probabilities(self._params, padded, jnp.asarray([places], jnp.int32))
            )  # [M, V]
        # Special tokens are no answer, however many are asked for: training never masks them.
        probabilities[:, list(tokenizer.special_ids)] = -1.0
        top_k = min(top_k, tokenizer.vocab_size - len(tokenizer.special_ids))
        best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top_k]
        return [
            [Candidate(tokenizer.token_text(int(token)), float(row[token])) for token in tokens]
            for row, tokens in zip(probabilities, best, strict=True)
        ]
