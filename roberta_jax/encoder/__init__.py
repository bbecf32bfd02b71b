"""RoBERTa: tokens → hidden states → logits over the vocabulary. The only importer of flax.

In: `EncoderConfig`, token ids [B, T]. Out: hidden states [B, T, D], logits [B, M, V] at chosen
positions and, of a model with a next-sentence head, [B, E, 2] for the examples of a row. Outside a
trace the weights are a nested dict of float32 arrays (`init_params`); inside, `bind` makes modules
of them.

- `model`: the masked language model, `init_params`, `bind`, the number of parameters.
- `task_model`: the encoder with the head of a task.
- `embedding`, `attention`, `layer`, `stack` (layers as one scan), `heads`: the parts, in the order
  of the data.
- `product`: matrix products with operands in the compute type and sums in float32.
- `dropout`: a mask that is a function of (row key, place), the same on any devices.

Shape letters: B rows, T tokens, S tokens attended to, D hidden size, H heads, K head size, F MLP
size, L layers, M masked positions, E examples of a packed row, V entries of the (padded)
vocabulary, C outputs of a task.
"""
