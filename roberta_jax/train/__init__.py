"""A pretraining run. Read `pretrain` first: it is the story from the config to the last step.

In: a `PretrainConfig`, a prepared dataset, a workdir. Out: checkpoints, `config.json`,
`metrics.jsonl`, TensorBoard files.

- `plan`: durations → phases and schedules in steps; `explain` tells it; `microbatches`: the parts
  of a batch; `shapes`: whether the mesh can split it; `run_data`: the datasets of the phases.
- `state`: everything that an update changes, as one tree of arrays.
- `inputs`: a batch → what the model and its losses take; `update`: (state, batch) → (state,
  sums) for any objective; `step`: that of pretraining; `programs`: the steps jitted over the mesh.
- `evaluate`: losses on the validation rows with fixed masks.
- `loop`: steps, logging, evaluation and checkpoints until the end or an interrupt; `progress`:
  where it stands; `clock`: the time of its steps; `divergence`: updates that are left out, and
  spikes of the loss; `telling`: what is said of steps.
- `pretrain`: puts them together; `resume`: where a run goes on; `workdir`: what lies where;
  `metrics`: the record of a run and its sinks; `same_run`: whether all processes have the same.
- `restore`: the weights of a workdir, for other commands; `transfer`: into another model.
- `console`: what a person sees; `interrupt`: signals as a wish to stop.
- `hardware`: peak rates of known chips, and the FLOPs of a step.
"""
