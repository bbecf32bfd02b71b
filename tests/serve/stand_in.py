"""A model without weights: the methods that the server uses, at once and with known numbers."""

import math
import re
import threading
import types
import warnings

import numpy as np

from roberta_jax.errors import TruncationWarning, UserError

LAYERS, HEADS, MAX_TOKENS = 3, 2, 200
CANDIDATES = [
    (" door", 0.4),
    ("<img src=x onerror=document.title='broken'>", 0.3),
    (" a\u202eb", 0.1),
    ("\ufffd", 0.05),
    (" &amp;", 0.00001),
]


class Tokenizer:
    """A token is a word with the blank before it."""

    mask_token = "<mask>"

    def encode_with_offsets(self, text):
        words = list(re.finditer(r"\S+", text))
        return list(range(len(words))), [word.span() for word in words]


class StandIn:
    """Answers at once, or when `gate` opens; `texts` are those that it was asked about."""

    def __init__(self, *, mask_token="<mask>"):
        self.config = types.SimpleNamespace(num_layers=LAYERS, num_heads=HEADS)
        self.tokenizer = Tokenizer()
        self.tokenizer.mask_token = mask_token
        self.step, self.max_tokens = 1234, MAX_TOKENS
        self.texts = []
        self.gate = threading.Event()
        self.gate.set()
        self.at_work = self.most_at_work = 0

    def fill_mask(self, text, top_k=5):
        with self._asked(text):
            if "<mask>" not in text and self.tokenizer.mask_token not in text:
                raise UserError(f"The text {text!r} has no <mask>; write it.")
            count = text.replace(self.tokenizer.mask_token, "<mask>").count("<mask>")
            return [
                [
                    types.SimpleNamespace(token=token, probability=probability / (mask + 1))
                    for token, probability in CANDIDATES[:top_k]
                ]
                for mask in range(count)
            ]

    def attention(self, text):
        with self._asked(text):
            tokens = ["<s>", *self._tokens(text), "</s>"]
            shape = (LAYERS, HEADS, len(tokens), len(tokens))
            return tokens, attention_of(shape)

    def score_tokens(self, texts):
        (text,) = texts
        with self._asked(text):
            return [
                [
                    types.SimpleNamespace(token=token, log_probability=log_probability(index))
                    for index, token in enumerate(self._tokens(text))
                ]
            ]

    def _tokens(self, text):
        tokens = re.findall(r"\s*\S+", text)
        if len(tokens) + 2 > MAX_TOKENS:
            warnings.warn(
                f"The text has {len(tokens) + 2} tokens: its end was left out.",
                TruncationWarning,
                stacklevel=2,
            )
        return tokens[: MAX_TOKENS - 2]

    def _asked(self, text):
        self.texts.append(text)
        return _AtWork(self)


class _AtWork:
    def __init__(self, model):
        self.model = model

    def __enter__(self):
        self.model.at_work += 1
        self.model.most_at_work = max(self.model.most_at_work, self.model.at_work)
        assert self.model.gate.wait(30)

    def __exit__(self, *_):
        self.model.at_work -= 1


def attention_of(shape):
    """Different in every layer and head; rows sum to 1."""
    layers, heads, length, _ = shape
    scores = np.arange(layers * heads)[:, None, None] + 1.0
    scores = scores * np.cos(np.arange(length)[:, None] + 2 * np.arange(length)[None, :])
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    return weights.reshape(shape).astype(np.float32)


def log_probability(index):
    return -0.5 * (index % 20) - math.log(2)
