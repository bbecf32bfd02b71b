"""A pretraining run. Read `pretrain` first: it is the story from the config to the last step.

In: a `PretrainConfig`, a prepared dataset, a workdir. Out: checkpoints, `config.json`,
`metrics.jsonl`, TensorBoard files.

- `state`: everything that an update changes, as one tree of arrays.
- `step`: (state, batch) → (state, sums), jitted once.
- `evaluate`: loss on the validation rows with fixed masks.
- `loop`: steps, logging, evaluation and checkpoints until the end or an interrupt.
- `pretrain`: puts them together; `resume`: where a run goes on; `workdir`: what lies where;
  `metrics`: the record of a run and its sinks.
- `restore`: the weights of a workdir, for other commands.
- `console`: what a person sees; `interrupt`: signals as a wish to stop.
- `hardware`: peak rates of known chips, and the FLOPs of a step.
"""
