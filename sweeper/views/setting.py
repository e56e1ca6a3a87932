"""What a sweep is about, in the words of titles and sentences: model, data, optimizer, updates, seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeper.spec.question import Question, node_name, seeds_and_folds
from sweeper.text.columns import clean

if TYPE_CHECKING:
    from sweeper.results.stored import StoredSweep


def subject(question: Question) -> str:
    """Return model and data: "NGram on NextByte"."""
    model, data = node_name(question.get("model")), node_name(question.get("data"))
    return f"{model or 'a model'} on {data or 'the data'}"


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
    return clean(", ".join(filter(None, (subject(question), optimizer, updates, seeds or members(question)))))
