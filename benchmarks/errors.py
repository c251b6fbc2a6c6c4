"""The exception for mistakes of the user, and words for its messages."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input; the message says what failed, the value, what to do."""


def in_words(error: Exception) -> str:
    """An exception as `Type: first line of its message`."""
    first_line = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first_line.rstrip('.')}".removesuffix(": ")


def suggest(word: str, known: Iterable[str]) -> str:
    """` Did you mean …?` with the known words closest to a mistyped one, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=2)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
