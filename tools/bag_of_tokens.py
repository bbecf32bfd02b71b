"""What a text's tokens alone say of a task, without their order: what an encoder has to beat.

  python tools/bag_of_tokens.py --task=sst2 --data=GLUE --tokenizer=FOLDER --input='books/*.gz'

Three logistic regressions, on the same share of the training rows that `finetune` takes:

- bag: which tokens occur in the text;
- vectors: the mean of the vectors of its tokens, from the texts of --input: positive pointwise
  mutual information of tokens at most five places apart, with context distribution smoothing, and
  its leading singular vectors times the roots of the singular values (Levy, Goldberg and Dagan
  2015, TACL 3, sections 2.2 and 3). It is what the co-occurrences in those texts say of a word;
- both: what these vectors add to the bag.

The strength of the penalty is chosen by five-fold cross-validation in the training rows.
"""

import argparse
import collections
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import sklearn.linear_model
import sklearn.model_selection
import sklearn.preprocessing
import sklearn.utils.extmath

from roberta_jax.config import FinetuneConfig
from roberta_jax.data.corpus import read_documents
from roberta_jax.data.inputs import find_files
from roberta_jax.data.tokenizer import Tokenizer
from roberta_jax.data.tokenizer_folder import load_tokenizer
from roberta_jax.errors import UserError
from roberta_jax.finetune.rows import share_of
from roberta_jax.tasks.catalogue import GLUE, find_task
from roberta_jax.tasks.examples import TRAIN, Example
from roberta_jax.tasks.glue import load_glue

WINDOW = 5
SMOOTHING = 0.75
PENALTIES = (0.01, 0.1, 1.0)
FOLDS = 5
# Beside the bag's features, which are 0 or 1, those of the vectors are scaled to this deviation.
VECTORS_BESIDE_BAG = 0.4
TOKENS_AT_ONCE = 4_000_000
DOCUMENTS_AT_ONCE = 64


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    tasks = [task.name for task in GLUE if task.kind == "classification"]
    parser.add_argument("--task", choices=tasks, required=True)
    parser.add_argument("--data", required=True, help="as for finetune")
    parser.add_argument("--tokenizer", required=True, help="a tokenizer folder")
    parser.add_argument("--input", action="append", required=True, help="texts, as for prepare")
    parser.add_argument("--shares", default="0.01,0.1,1", help="of the training rows")
    parser.add_argument("--vector_size", type=int, default=256)
    options = parser.parse_args()
    try:
        task, tokenizer = find_task(options.task), load_tokenizer(options.tokenizer)
        splits = load_glue(task, options.data).splits
        dev = splits[task.dev[0]]
        of_shares = [share_for_folds(splits[TRAIN], share) for share in options.shares.split(",")]
        files = find_files(options.input)
        counts, num_tokens = cooccurrences(encoded(files, tokenizer), tokenizer.vocab_size)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    vectors = singular_vectors(counts, options.vector_size)
    print(f"vectors: {options.vector_size} numbers for each token, from {num_tokens:,} tokens")
    print("| task | training rows | bag | vectors | both |\n|---|---|---|---|---|")
    for train in of_shares:
        found = accuracies(train, dev, tokenizer, vectors)
        cells = " | ".join(f"{100 * each:.1f}" for each in found)
        print(f"| {task.title}, accuracy | {len(train):,} | {cells} |", flush=True)


def share_for_folds(examples: Sequence[Example], share: str) -> Sequence[Example]:
    """The rows that `finetune` takes; UserError where cross-validation cannot divide them."""
    try:
        of_all = float(share)
    except ValueError:
        of_all = 0.0
    if not 0 < of_all <= 1:
        raise UserError(f"--shares has {share}. Give numbers above 0 and at most 1.")
    train = share_of(examples, of_all, seed=FinetuneConfig().seed)
    answers = collections.Counter(example.label for example in train)
    rarest = min(answers[label] for label in {example.label for example in examples})
    if rarest < FOLDS:
        raise UserError(
            f"--shares has {share}: of one label that leaves {rarest} training rows, and the "
            f"{FOLDS} folds of the cross-validation need as many. Give a larger share."
        )
    return train


def encoded(files: Sequence[Any], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """The ids of one document after the other."""
    documents = read_documents(files)
    while some := list(itertools.islice(documents, DOCUMENTS_AT_ONCE)):
        texts = ["\n".join(document.sentences) for document in some]
        yield from (np.array(ids, np.int64) for ids in tokenizer.encode_batch(texts))


def cooccurrences(documents: Iterator[np.ndarray], vocab_size: int) -> tuple[Any, int]:
    """How often tokens stand near each other in a document, and how many tokens there were.

    Returns:
      Symmetric counts, sparse [V, V]: 1/d for two tokens d places apart (Pennington et al. 2014).
    """
    counts = scipy.sparse.csr_array((vocab_size, vocab_size))
    num_tokens, waiting, num_waiting = 0, [], 0
    for document in itertools.chain(documents, [None]):
        if document is not None:
            waiting += [document, np.full(WINDOW, -1)]  # Nothing is near to another document.
            num_waiting += len(document)
        if waiting and (document is None or num_waiting >= TOKENS_AT_ONCE):
            counts += near(np.concatenate(waiting), vocab_size)
            num_tokens, waiting, num_waiting = num_tokens + num_waiting, [], 0
    return counts + counts.T, num_tokens


def near(ids: np.ndarray, vocab_size: int) -> Any:
    """Sparse [V, V]: of every token, those after it, weighted; nothing of an id of -1."""
    counts = scipy.sparse.csr_array((vocab_size, vocab_size))
    for distance in range(1, WINDOW + 1):
        first, second = ids[:-distance], ids[distance:]
        real = (first >= 0) & (second >= 0)
        found = (np.full(real.sum(), 1 / distance), (first[real], second[real]))
        counts += scipy.sparse.coo_array(found, shape=counts.shape).tocsr()
    return counts


def singular_vectors(counts: Any, size: int) -> np.ndarray:
    """float32 [V, size], every vector of length 1; 0 for a token that does not occur."""
    counts = counts.tocoo()
    of_token = counts.sum(axis=1)
    smoothed = of_token**SMOOTHING
    expected = of_token[counts.row] * (smoothed / smoothed.sum())[counts.col]
    information = np.log(counts.data / expected)
    kept = information > 0
    matrix = scipy.sparse.csr_array(
        (information[kept], (counts.row[kept], counts.col[kept])), shape=counts.shape
    )
    left, values, _ = sklearn.utils.extmath.randomized_svd(matrix, size, n_iter=4, random_state=0)
    return sklearn.preprocessing.normalize(left * np.sqrt(values)).astype(np.float32)


def accuracies(
    train: Sequence[Example], dev: Sequence[Example], tokenizer: Tokenizer, vectors: np.ndarray
) -> list[float]:
    """On dev, of bag, vectors and both."""
    bags = [bag(examples, tokenizer) for examples in (train, dev)]
    dense = [means(each, vectors) for each in bags]
    scaler = sklearn.preprocessing.StandardScaler().fit(dense[0])
    dense = [scaler.transform(each) for each in dense]
    presence = [(each > 0).astype(np.float64) for each in bags]
    both = [
        scipy.sparse.hstack([one, scipy.sparse.csr_array(VECTORS_BESIDE_BAG * other)]).tocsr()
        for one, other in zip(presence, dense, strict=True)
    ]
    answers, wanted = ([example.label for example in examples] for examples in (train, dev))
    return [
        regression(features[0], answers).score(features[1], wanted)
        for features in (presence, dense, both)
    ]


def bag(examples: Sequence[Example], tokenizer: Tokenizer) -> Any:
    """How often every token occurs, sparse [examples, texts * V]; each text has its own columns."""
    columns = []
    for texts in zip(*(example.texts for example in examples), strict=True):
        ids = tokenizer.encode_batch(list(texts))
        rows = np.repeat(np.arange(len(ids)), [len(each) for each in ids])
        found = (np.ones(len(rows)), (rows, np.concatenate(ids).astype(np.int64)))
        columns.append(scipy.sparse.coo_array(found, shape=(len(ids), tokenizer.vocab_size)))
    return scipy.sparse.hstack(columns).tocsr()


def means(bags: Any, vectors: np.ndarray) -> np.ndarray:
    """The mean of every text's vectors, one text after the other: [examples, texts * size]."""
    size = len(vectors)
    texts = [bags[:, begin : begin + size] for begin in range(0, bags.shape[1], size)]
    return np.hstack([each @ vectors / np.maximum(each.sum(axis=1), 1)[:, None] for each in texts])


def regression(features: Any, answers: Sequence[float | None]) -> Any:
    """The logistic regression whose penalty is the best in five-fold cross-validation."""
    model = sklearn.linear_model.LogisticRegression(max_iter=300)
    search = sklearn.model_selection.GridSearchCV(model, {"C": PENALTIES}, cv=FOLDS)
    return search.fit(features, answers)


if __name__ == "__main__":
    main()
