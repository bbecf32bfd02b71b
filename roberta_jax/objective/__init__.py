"""What is learnt: masks drawn on the device, and the losses.

In: token rows [B, T] with their index and epoch; logits at masked positions, and at the `<s>` of
pairs. Out: a `MaskedBatch`, and sums with their counts (never means: means of unequal parts are
biased).

- `masking`: which tokens are predicted and what is shown in their place.
- `whole_words`: where words begin, and BERT's choice of whole words.
- `loss`: summed cross-entropy in nats, correct predictions, the count to divide by; the z-loss.
- `next_sentence`: where the pairs of a row begin, their token types, and BERT's second loss.
- `preview`: masked rows as text.
"""
