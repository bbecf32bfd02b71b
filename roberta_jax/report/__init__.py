"""From the workdirs of one or many runs to one HTML page that can be mailed.

In go `config.json` and `metrics.jsonl` of each workdir, or `results.json` of a fine-tuning; out
comes a page without scripts or outside files, and on request one image of the loss. `metrics` reads
a run, `batches` says what a step of it is, `summary` turns runs into the rows of the tables,
`plots` draws, `page` puts it all together and writes it. `finetuning` is the page of a fine-tuning,
with the figures of `score_plots`. The two that draw are the only importers of matplotlib.
"""
