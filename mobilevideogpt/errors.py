"""The error that the input causes, not the program."""


class InputError(ValueError):
    """A file or a setting of the user is wrong; the message says what, where, and how to fix it.

    Scripts print it without a traceback and exit with status 1.
    """
