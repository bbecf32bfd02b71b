"""What a request asks of the model, with its limits, as JSON."""

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from roberta_jax.errors import TruncationWarning, UserError

if TYPE_CHECKING:
    from roberta_jax.inference.model import Model

MASK = "<mask>"
MAX_MASKS = 16
MAX_CANDIDATES = 50
# The answer has a number for every pair of tokens, and the page a cell.
MAX_ATTENTION_TOKENS = 64
# The model reads the text once for every token.
MAX_SCORED_TOKENS = 128

Fields = dict[str, Any]


def fill_mask(model: "Model", fields: Fields) -> Fields:
    """Candidates for every mask.

    Args:
      model: the model that is asked.
      fields: `text`, and `top_k` (8 if left out).

    Returns:
      `masks`: for each mask a list of `token` and `probability`, best first; `notices`.
    """
    _only(fields, "text", "top_k")
    text = _text(fields)
    top_k = _number(fields, "top_k", 1, MAX_CANDIDATES, default=8)
    if text.replace(model.tokenizer.mask_token, MASK).count(MASK) > MAX_MASKS:
        raise UserError(f"The text has more than {MAX_MASKS} masks. Leave some out.")
    masks, notices = _noticing(lambda: model.fill_mask(text, top_k))
    return {
        "masks": [
            [
                {"token": candidate.token, "probability": _finite(candidate.probability)}
                for candidate in candidates
            ]
            for candidates in masks
        ],
        "notices": notices,
    }


def attention(model: "Model", fields: Fields) -> Fields:
    """Whom each token attends to in one head.

    Args:
      model: the model that is asked.
      fields: `text`, and `layer` and `head`, counted from 0 (0 if left out).

    Returns:
      `tokens` [T], `weights` [T, T] from row to column, `layer`, `head`, `layers` and `heads` (how
      many there are), `notices`.
    """
    _only(fields, "text", "layer", "head")
    layers, heads = model.config.num_layers, model.config.num_heads
    layer = _number(fields, "layer", 0, layers - 1)
    head = _number(fields, "head", 0, heads - 1)
    text, cut = _shortened(model, _text(fields), MAX_ATTENTION_TOKENS)
    (tokens, weights), notices = _noticing(lambda: model.attention(text))
    rows = weights[layer, head].tolist()
    return {
        "tokens": tokens,
        "weights": [[_finite(weight) for weight in row] for row in rows],
        "layer": layer,
        "head": head,
        "layers": layers,
        "heads": heads,
        "notices": cut + notices,
    }


def score(model: "Model", fields: Fields) -> Fields:
    """How probable every token is when it alone is masked.

    Args:
      model: the model that is asked.
      fields: `text`.

    Returns:
      `tokens`: `token`, `probability` and `log_probability` (nats) of each;
      `pseudo_perplexity`, null for a text without tokens; `notices`.
    """
    _only(fields, "text")
    text, cut = _shortened(model, _text(fields), MAX_SCORED_TOKENS)
    (tokens,), notices = _noticing(lambda: model.score_tokens([text]))
    losses = [-token.log_probability for token in tokens]
    return {
        "tokens": [
            {
                "token": token.token,
                "probability": _exp(token.log_probability),
                "log_probability": _finite(token.log_probability),
            }
            for token in tokens
        ],
        "pseudo_perplexity": _exp(math.fsum(losses) / len(losses)) if losses else None,
        "notices": cut + notices,
    }


def _noticing(ask: Callable[[], Any]) -> tuple[Any, list[str]]:
    """The model's answer, and what was left out of the text."""
    # The filters of warnings belong to the process: this is right because the app lets the model
    # answer one request at a time.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TruncationWarning)
        answer = ask()
    return answer, [
        str(warning.message)
        for warning in caught
        if issubclass(warning.category, TruncationWarning)
    ]


def _shortened(model: "Model", text: str, limit: int) -> tuple[str, list[str]]:
    """The beginning of a text of at most `limit` tokens, and a notice if it is not all."""
    if limit >= model.max_tokens:
        return text, []  # The model itself is stricter.
    kept = limit - 2  # `<s>` and `</s>` take part.
    _, offsets = model.tokenizer.encode_with_offsets(text)
    if len(offsets) <= kept:
        return text, []
    # Not within a character, parts of which may be tokens.
    end = min(offsets[kept - 1][1], offsets[kept][0])
    notice = (
        f"The text has {len(offsets) + 2:,} tokens, and this view shows at most {limit}: its end "
        "was left out."
    )
    return text[:end], [notice]


def _only(fields: Fields, *names: str) -> None:
    if unknown := sorted(fields.keys() - set(names)):
        raise UserError(f"{unknown[0]!r} is not asked for here; there are: {', '.join(names)}.")


def _text(fields: Fields) -> str:
    text = fields.get("text")
    if not isinstance(text, str):
        raise UserError("text must be a string: the sentence.")
    if not text.strip():
        raise UserError("The sentence is empty. Type one.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError("The sentence is not valid Unicode.") from error
    return text


def _number(fields: Fields, name: str, lowest: int, highest: int, *, default: int = 0) -> int:
    number = fields.get(name, default)
    if type(number) is not int or not lowest <= number <= highest:  # True is no number here.
        raise UserError(f"{name} must be a whole number from {lowest} to {highest}.")
    return number


def _finite(value: float) -> float | None:
    """The number, or null, where JSON has none: the model diverged."""
    return value if math.isfinite(value) else None


def _exp(value: float) -> float | None:
    try:
        return _finite(math.exp(value))
    except OverflowError:
        return None
