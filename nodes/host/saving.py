"""Saves a subject under a free name, with a thumbnail beside it and a copy that the browser can download."""
# pyright: reportMissingImports=false

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from torch import Tensor

from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.files.images import save_image
from ...hybridbooth_core.files.subject import Subject, check_name
from .folders import free_name, new_subject_path
from .notices import notify

DOWNLOADS = "hybridbooth"  # a folder in ComfyUI's temp folder


@dataclass(frozen=True)
class Saved:
    """The file, a sentence for the user, and what the browser needs to download a copy (the arguments of GET /view)."""

    path: Path
    said: str
    download: dict[str, str]


def save_subject(subject: Subject, name: str, overwrite: bool = False, preview: Tensor | None = None) -> Saved:
    """Saves a subject as `name`, or unless `overwrite` as `name-2`, `name-3` ... if that is taken by another one.

    Args:
        preview: an image [B, H, W, 3], of which the first is saved beside the file.
    Raises:
        UserError: the name is invalid, or the folder cannot be written.
    """
    free = name if overwrite else free_name(name, lambda other: _is_free(new_subject_path(other), subject))
    path = new_subject_path(free)
    there = path.exists() and not overwrite
    if not there:
        subject.save(path, overwrite=overwrite)
    said = f"{path.parent.name}/{path.name}, {path.stat().st_size / 1000:.1f} kB"
    if there:
        said += ", as it was: the file holds this very subject"
    elif path.stem != check_name(name):
        notify(f"{name} is taken by another subject, so this one was saved as {path.stem}; turn on 'overwrite' to replace files")
        said += f"; {name} is taken"
    if preview is not None:
        save_image(preview[0].detach().float().cpu(), path.with_suffix(".png"))
    if " " in path.stem:
        said += "; use it by Load Subject, since stock prompts end embedding:name at a space"
    return Saved(path, said, _download(path))


def _is_free(path: Path, subject: Subject) -> bool:
    """Whether nothing would be lost by saving the subject there: there is no file, or one that holds this very subject."""
    return not path.exists() or _holds(path, subject)


def _holds(path: Path, subject: Subject) -> bool:
    try:
        other = Subject.load(path)
    except UserError:
        return False
    return (
        other.info == subject.info
        and other.embeddings.shape == subject.embeddings.shape
        and bool((other.embeddings == subject.embeddings).all())
    )


def _download(path: Path) -> dict[str, str]:
    """A copy in the temp folder, from which ComfyUI serves files."""
    folder = Path(folder_paths.get_temp_directory()) / DOWNLOADS
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / path.name)
    return {"filename": path.name, "subfolder": DOWNLOADS, "type": "temp"}
