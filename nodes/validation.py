"""Checks of widget values for `validate_inputs`, so that a prompt is refused when it is queued and not after the work.

Each returns the sentence for the user, or "" if the value is fine or comes from another node (None).
"""

from __future__ import annotations

from ..hybridbooth_core.errors import UserError
from ..hybridbooth_core.files.subject import check_name


def name_problem(name: str | None) -> str:
    """What is wrong with a subject's name."""
    if name is None:
        return ""
    try:
        check_name(name)
    except UserError as error:
        return str(error)
    return ""


def noun_problem(noun: str | None) -> str:
    """What is wrong with a class noun."""
    if noun is None or noun.strip():
        return ""
    return "expected a class noun such as cat or backpack, found none; say in one noun what kind of thing the subject is"
