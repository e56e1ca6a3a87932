"""What studies are made of, as the spool recorded it for trackers."""

from __future__ import annotations

from pathlib import Path

from sweeper.tracking.events import EVENTS, lines, parse
from sweeper.types import Summary

DESCRIBE = b'{"e":"describe",'


def read_summaries(spool: Path) -> dict[str, Summary]:
    """Return the summary of each study: all that was recorded of it, merged, the last value of each key."""
    found: dict[str, Summary] = {}
    for line in lines(spool / EVENTS):
        event = parse(line) if line.startswith(DESCRIBE) else None
        if event is not None:
            before = found.get(event["study"], Summary())
            found[event["study"]] = Summary(
                {**before.params, **event["params"]},
                {**before.tags, **event["tags"]},
                {**before.metrics, **event["metrics"]},
                event.get("note") or before.note,
            )
    return found
