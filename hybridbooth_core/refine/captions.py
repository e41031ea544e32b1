"""The prompts of a refinement: templates that fit any photo, or what the user says that the photo shows.

What a prompt names, the subject's embeddings need not explain: with the photo's scene said they learn the subject instead.
"""

from __future__ import annotations

from ..errors import UserError

TEMPLATES = (("a photo of",), ("a photo of a",))
"""Text before the subject, where nothing is known of the photo."""
SUBJECT = "<subject>"


def templates(caption: str, images: int) -> list[list[tuple[str, ...]]]:
    """The templates of each image, used in turns: the text before the subject's embeddings and, where there is some, the text after them.

    Args:
        caption: "a photo of <subject> on a sofa", or what follows the subject ("on a sofa"); a line for each image, or one for all. Empty
            for templates that fit any photo.
    Raises:
        UserError: there are other numbers of lines and images, or a line names the subject twice.
    """
    lines = [line.strip() for line in caption.splitlines() if line.strip()]
    if not lines:
        return [list(TEMPLATES)] * images
    if len(lines) not in (1, images):
        raise UserError(f"expected one caption, or one line for each of the {images} images, found {len(lines)} lines")
    found = [_of_line(line) for line in lines]
    return found * images if len(found) == 1 else found


def _of_line(line: str) -> list[tuple[str, ...]]:
    parts = [part.strip() for part in line.split(SUBJECT)]
    if len(parts) > 2:
        raise UserError(f"a caption names {SUBJECT} once, found {len(parts) - 1} times in {line[:80]!r}")
    if len(parts) == 2:
        return [(parts[0], parts[1])]
    return [(*template, line) for template in TEMPLATES]
