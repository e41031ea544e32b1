"""The exception for errors that a user can fix: its message says what was expected, what was found and what to do."""


class UserError(ValueError):
    """Shown to the user as it is, without a traceback: exit code 2 on the command line, the node's message in ComfyUI."""
