"""From the workdirs of one or many runs to one HTML page that can be mailed.

In go `config.json` and `metrics.jsonl` of each workdir; out comes a page without scripts or outside
files, and on request one image of the loss. `metrics` reads a run, `batches` says what a step of it
is, `summary` turns runs into the rows of the tables, `plots` draws (the only importer of
matplotlib), `page` puts it all together and writes it.
"""
