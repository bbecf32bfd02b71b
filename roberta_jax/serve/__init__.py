"""A page on this machine for looking at a model.

In: a loaded model, and sentences that a browser sends as JSON. Out: the page, candidates for every
mask, the attention of one head, the probability of every token. Nothing is kept, nothing is asked
of any other machine.

- `server`: socket, model and uvicorn, from the command to Ctrl-C.
- `app`: the paths, and one answer at a time from the model.
- `answers`: what a request asks of the model, with its limits, as JSON.
- `guard`: which requests are let in, and the headers of every response.
- `page/`: HTML, CSS and plain JavaScript, sent as they are.
"""
