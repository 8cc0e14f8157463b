"""The exception for mistakes of the user: one line that says what is wrong, where, and what to do."""


class UserError(ValueError):
    """Something that the user can fix. The command line prints it as one line, without a traceback."""
