"""What a sweep is about, in the words of titles and sentences: model, data, optimizer, updates, seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeper.spec.question import Question, node_name, seeds_and_folds
from sweeper.text.columns import clean
from sweeper.tracking.summaries import read_summaries

if TYPE_CHECKING:
    from sweeper.results.stored import StoredSweep


def subject(question: Question, data: str = "") -> str:
    """Return model and data: "NGram on NextByte".

    Args:
        question: The question of the sweep.
        data: What the data are called if the question does not say it.
    """
    node = question.get("model") or {}
    model = node_name(node) or str(node.get("class", ""))
    return clean(f"{model or 'a model'} on {node_name(question.get('data')) or data or 'the data'}")


def subject_of(sweep: StoredSweep) -> str:
    """Return model and data of a sweep. What data of a sweep in Python are called is only in its spool."""
    question = sweep.config["question"]
    if "data" in question:
        return subject(question)
    names = (one.params["data"] for one in read_summaries(sweep.home.spool).values() if "data" in one.params)
    return subject(question, str(next(names, "")))


def members(question: Question) -> str:
    """Return the seeds and folds of a trial: "one seed", "3 seeds x 5 folds"."""
    counts = zip(seeds_and_folds(question), ("seed", "fold"), strict=True)
    return " x ".join(f"{count} {word}s" for count, word in counts if count > 1) or "one seed"


def title(sweep: StoredSweep, seeds: str = "") -> str:
    """Return the start of a figure's title: "NGram on NextByte, SGD, 1,000 updates, one seed".

    Args:
        sweep: The sweep.
        seeds: What is drawn, if it is not the trials of the search: "12 common seeds".
    """
    question = sweep.config["question"]
    optimizer = node_name(question["optimizer"])
    updates = f"{question['train']['steps']:,} updates"
    return clean(", ".join(filter(None, (subject_of(sweep), optimizer, updates, seeds or members(question)))))
