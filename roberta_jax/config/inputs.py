"""What is read, and what of it is predicted."""

import dataclasses
import math

import numpy as np

from roberta_jax.config.checks import one_of, require


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
        require(
            self.sequence_length >= 8,
            "data.sequence_length",
            self.sequence_length,
            "at least 8 tokens",
        )
        require(
            self.attention in ("", "row", "example"),
            "data.attention",
            repr(self.attention),
            'row, example, or "" for the dataset\'s',
        )
        require(
            self.num_read_threads >= 0, "data.num_read_threads", self.num_read_threads, "0 or more"
        )
        require(
            self.num_read_processes >= 0,
            "data.num_read_processes",
            self.num_read_processes,
            "0 or more",
        )
        require(
            self.prefetch_batches >= 1, "data.prefetch_batches", self.prefetch_batches, "at least 1"
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
    whole_words: bool = False  # All tokens of a word, or none of them, are predicted.
    num_slots: int = 0  # M, the places per row that reach the vocabulary; 0: enough for `rate`.

    def most_predictions(self, sequence_length: int) -> int:
        """Predictions in a row all of whose tokens can be masked."""
        # In float32, as the masks are drawn: at halves, the last digit decides.
        return max(1, round(float(np.float32(self.rate) * np.float32(sequence_length))))

    def max_masked(self, sequence_length: int) -> int:
        """M, the slots per row that reach the vocabulary projection; enough for every row."""
        slots = self.num_slots or max(1, math.ceil(self.rate * sequence_length))
        return min(slots, sequence_length)

    def validate(self) -> None:
        one_of(self.kind, "masking.kind", ("dynamic", "static"))
        require(
            self.num_static_masks >= 1,
            "masking.num_static_masks",
            self.num_static_masks,
            "at least 1",
        )
        require(0 < self.rate < 1, "masking.rate", self.rate, "in (0, 1)")
        require(self.num_slots >= 0, "masking.num_slots", self.num_slots, "0 or more")
        shares = (self.mask_share, self.random_share)
        require(
            min(shares) >= 0 and sum(shares) <= 1 + 1e-9,
            "masking.mask_share and masking.random_share",
            shares,
            "not negative, with a sum of at most 1",
        )
