"""The one exception for what a user can mend: its message says what was expected, what was found and what to do."""


class UserError(ValueError):
    """Shown to the person as it stands, without a traceback: exit code 2 on the command line, the node's message in ComfyUI."""
