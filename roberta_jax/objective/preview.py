"""Rows as text, with the masks that the model would be shown, for a person to look at."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from roberta_jax.config import MaskingConfig
from roberta_jax.data.inspection import label_names
from roberta_jax.data.order import evenly_spaced
from roberta_jax.data.records import RecordDataset, open_dataset
from roberta_jax.objective.masking import Masker, masking_key


def masked_texts(
    dataset: RecordDataset, index: np.ndarray, *, config: MaskingConfig, seed: int, epoch: int
) -> list[str]:
    """What a run with `seed` shows of some rows in its pass number `epoch`.

    A token to be predicted is written as shown → original: `[<mask>→ door]`, `[ cat→ door]` for a
    random replacement, `[ door]` where it stays. Padding is left out.

    Args:
      dataset: the rows.
      index: their numbers [n].
      config: how they are masked.
      seed: of the run.
      epoch: how often the rows were seen before.

    Returns:
      One text per row.
    """
    tokenizer = dataset.tokenizer()
    masker = Masker.of(config, tokenizer)
    tokens = dataset.read(index).astype(np.int32)
    masked = jax.device_get(
        masker(
            jnp.asarray(tokens),
            jnp.asarray(index, jnp.uint32),
            jnp.full(len(index), epoch, jnp.uint32),
            masking_key(seed),
        )
    )
    texts = []
    for row, shown, positions, weights in zip(
        tokens, masked.tokens, masked.positions, masked.weights, strict=True
    ):
        predicted = set(positions[weights > 0].tolist())
        pieces = []
        for place, (original, visible) in enumerate(zip(row.tolist(), shown.tolist(), strict=True)):
            if original == tokenizer.pad_id:
                continue
            text = tokenizer.token_text(visible)
            if place in predicted:
                arrow = "" if visible == original else f"→{tokenizer.token_text(original)}"
                text = f"[{text}{arrow}]"
            pieces.append(text)
        texts.append("".join(pieces))
    return texts


def preview(folder: str, split: str, *, num_rows: int, seed: int, epoch: int) -> Iterator[str]:
    """Lines that show some rows of a dataset, evenly spaced, as `masked_texts` has them.

    Raises UserError when the folder is no dataset.
    """
    dataset = open_dataset(folder, split)
    index = evenly_spaced(len(dataset), num_rows)
    if not len(index):
        yield f"The {split} split has no rows."
        return
    texts = masked_texts(dataset, index, config=MaskingConfig(), seed=seed, epoch=epoch)
    for number, text in zip(index.tolist(), texts, strict=True):
        labels = label_names(dataset, number)
        yield ""
        yield f"{split} row {number:,}" + (f" ({', '.join(labels)})" if labels else "") + ":"
        yield text
