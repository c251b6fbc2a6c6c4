"""The one exception whose text is written for the person at the terminal."""


class UserError(Exception):
    """A mistake in the input, in one sentence: what failed, the value, the cure."""
