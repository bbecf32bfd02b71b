"""Pretraining of RoBERTa encoders from raw text, with JAX and Flax.

    model = roberta_jax.load("runs/small")  # Or a Hugging Face folder.
    model.fill_mask("He opened the <mask>.")

Importing this package loads neither jax nor any data library; each command, and `load`, loads what
it needs.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from roberta_jax.version import __version__ as __version__

if TYPE_CHECKING:
    from roberta_jax.inference.model import Model


def load(path: str | Path, *, step: int = -1) -> "Model":
    """Loads a masked language model, to be asked from Python.

    Args:
      path: a workdir, or a Hugging Face or fairseq folder.
      step: which checkpoint of a workdir; -1 for the newest.

    Returns:
      A `Model` with `encode(texts)`, `fill_mask(text, top_k)`, `perplexity(texts)` and
      `logits(ids, attention_mask)`.

    Raises:
      UserError: it is neither, or incomplete or damaged.
    """
    from roberta_jax.inference.model import load as load_model

    return load_model(path, step=step)
