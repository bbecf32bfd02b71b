"""What is learnt: masks drawn on the device, and the masked-language-model loss.

In: token rows [B, T] with their index and epoch; logits at masked positions. Out: a `MaskedBatch`,
and sums with their counts (never means: means of unequal parts are biased).

- `masking`: which tokens are predicted and what is shown in their place.
- `loss`: summed cross-entropy in nats, correct predictions, and the count to divide by.
"""
