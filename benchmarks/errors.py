"""The exception for mistakes of the user."""


class UserError(Exception):
    """A mistake in the input; the message says what failed, the value, what to do."""
