"""The options of a verb on a stored sweep, as typed: `confirm.top=5`."""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.types import InputError


def read_options(verb: str, words: Sequence[str], what: str, example: str) -> dict[str, object]:
    """Return the values of a verb's options by key, without the verb.

    Args:
        verb: The verb.
        words: As typed.
        what: What the verb makes, for the error, with its article.
        example: One of its options.

    Raises:
        InputError: If a word is no option of this verb, or has no value.
    """
    values: dict[str, object] = {}
    for word in words:
        key, is_pair, text = word.partition("=")
        if not is_pair or not key.startswith(f"{verb}."):
            problem = f"{what} takes the sweep as it is"
            raise InputError(key, text or None, problem, f"Write {verb}.KEY=VALUE, such as {example}")
        values[key.removeprefix(f"{verb}.")] = _read(key, text)
    return values


def _read(key: str, text: str) -> object:
    """Return a value as YAML has it; 1e-3 is a number, too."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(key, text, "not a value", "Write a number, a word or a list, such as [8,12,16]") from error
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
