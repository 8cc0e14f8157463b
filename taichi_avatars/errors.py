"""The one exception that a person's mistake raises: a line that says what is wrong, where, and what to do."""


class UserError(ValueError):
    """Something that the person at the keyboard can put right. The command line prints it as one line, without a traceback."""
