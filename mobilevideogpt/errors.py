"""The one kind of error that is the input's fault, not the program's."""


class InputError(ValueError):
    """Something the user gave is wrong; the message names the file, the record and the remedy.

    Scripts print it without a traceback and exit with status 1.
    """
