"""Reference images of a node, and the report that it shows; what the user should know of them is said in the browser."""
# pyright: reportMissingImports=false

from __future__ import annotations

from torch import Tensor

from ...hybridbooth_core.encoders.features import Reference, reference
from ...hybridbooth_core.files.subject import Subject
from ...hybridbooth_core.models.adapter import DiffusionModel
from ...hybridbooth_core.report.subject_report import subject_report
from .notices import notify


def node_reference(image: Tensor, mask: Tensor | None, invert_mask: bool = False) -> Reference:
    """A node's image and mask, checked; see `reference`. Call it outside inference mode."""
    ref = reference(image, mask, invert_mask)
    for notice in ref.notices:
        notify(notice)
    return ref


def node_report(model: DiffusionModel, ref: Reference, subject: Subject, *texts: str) -> tuple[str, Tensor]:
    """The report as text, which starts with `texts`, and as an image [1, H, W, 3]."""
    drawn = subject_report(model, ref, subject)
    for notice in drawn.notices:
        notify(notice)
    lines = [*texts, *(f"note: {notice}" for notice in (*ref.notices, *drawn.notices))]
    return "\n".join(line for line in lines if line), drawn.image[None]
