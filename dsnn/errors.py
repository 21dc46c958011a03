"""Errors that are the user's to mend."""


class UserError(Exception):
    """Wrong usage or bad input: one line that names the value, the limit and the remedy.

    The command line prints the line on stderr and exits with 2, without a traceback.
    """
