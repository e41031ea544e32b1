"""Where files are: probes in models/hybridbooth, subjects in models/embeddings, and whatever extra_model_paths.yaml adds to them.

A file to read is always one of a list of names that the host found; a file to write is checked to lie inside its folder.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import folder_paths

from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.files.safetensors import declared_format
from ...hybridbooth_core.files.subject import check_name

PROBES, SUBJECTS = "hybridbooth", "embeddings"


def register_probe_folder() -> None:
    """Make models/hybridbooth a folder of `.safetensors` files, beside the folders that the person's own settings name."""
    paths = list(folder_paths.folder_names_and_paths.get(PROBES, ([], set()))[0])
    own = os.path.join(folder_paths.models_dir, PROBES)
    folder_paths.folder_names_and_paths[PROBES] = (paths if own in paths else [*paths, own], {".safetensors"})


def files_of(format_name: str) -> list[str]:
    """Names of the files in models/hybridbooth of a format, and of those that cannot be read: what is wrong is told when one is chosen."""
    names = folder_paths.get_filename_list(PROBES)
    return [name for name in names if _format(folder_paths.get_full_path(PROBES, name)) in (format_name, None)]


def _format(path: str | None) -> str | None:
    """`declared_format`, read again only when the file has changed: the host lists names with every graph it checks."""
    try:
        return None if path is None else _format_at(path, os.stat(path).st_mtime_ns)
    except OSError:
        return None


@lru_cache(4096)
def _format_at(path: str, changed: int) -> str | None:
    return declared_format(Path(path))


def probe_path(name: str) -> Path:
    return _path(PROBES, name)


def mapper_path(name: str) -> Path:
    return _path(PROBES, name)


def subject_files() -> list[str]:
    """Names of the embedding files that may be subjects."""
    return [name for name in folder_paths.get_filename_list(SUBJECTS) if name.endswith(".safetensors")]


def subject_path(name: str) -> Path:
    return _path(SUBJECTS, name)


def new_subject_path(name: str) -> Path:
    """Where a subject called `name` is saved; its folder is made if it is not there.

    Raises:
        UserError: the name is none, or would lie outside the folder.
    """
    folder = Path(folder_paths.get_folder_paths(SUBJECTS)[0])
    path = folder / f"{check_name(name)}.safetensors"
    inside = os.path.realpath(folder)
    if os.path.dirname(os.path.realpath(path)) != inside:
        raise UserError(f"{path.name} points outside {inside}; choose another name or remove that link")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be made ({error}); make it, or choose another models folder") from error
    return path


def _path(kind: str, name: str) -> Path:
    """The file of a listed name. UserError: it is not there (any more); the message says where it was looked for."""
    found = folder_paths.get_full_path(kind, name)
    if found is None:
        searched = ", ".join(folder_paths.get_folder_paths(kind))
        raise UserError(f"{name} was not found in {searched}; put the file there and refresh the node list")
    return Path(found)


def changed(path: Path) -> int:
    """When a file was last written, in nanoseconds: the host runs a node again where this differs."""
    return path.stat().st_mtime_ns
