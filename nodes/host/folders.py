"""The pack's model folders: probes in models/hybridbooth, subjects in models/embeddings, and those of extra_model_paths.yaml.

Only files that ComfyUI lists are read, and files are only written inside their folder.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import folder_paths

from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.files.safetensors import declared_format
from ...hybridbooth_core.files.subject import MAX_NAME, check_name

PROBES, SUBJECTS, LORAS = "hybridbooth", "embeddings", "loras"
UPLOADED, INPUT = "hybridbooth", " [input]"  # ComfyUI's mark of files in its input folder


def register_probe_folder() -> None:
    """Registers models/hybridbooth as a folder of `.safetensors` files, in addition to the folders in the user's configuration."""
    paths = list(folder_paths.folder_names_and_paths.get(PROBES, ([], set()))[0])
    own = os.path.join(folder_paths.models_dir, PROBES)
    folder_paths.folder_names_and_paths[PROBES] = (paths if own in paths else [*paths, own], {".safetensors"})


def files_of(format_name: str) -> list[str]:
    """Names of the files in models/hybridbooth of a format, and of unreadable files, so that choosing one shows its error."""
    names = folder_paths.get_filename_list(PROBES)
    return [name for name in names if _format(folder_paths.get_full_path(PROBES, name)) in (format_name, None)]


def _format(path: str | None) -> str | None:
    """`declared_format`, cached until the file changes, since ComfyUI lists files for every graph that it validates."""
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
    """Names of the `.safetensors` files in models/embeddings, and of uploaded ones with " [input]" after them."""
    listed = [name for name in folder_paths.get_filename_list(SUBJECTS) if name.endswith(".safetensors")]
    uploads = _uploads()
    found = sorted(path.name for path in uploads.glob("*.safetensors")) if uploads.is_dir() else []
    return listed + [f"{UPLOADED}/{name}{INPUT}" for name in found]


def subject_path(name: str) -> Path:
    """The path of a listed subject; UserError if it does not exist any more."""
    if not name.endswith(INPUT):
        return _path(SUBJECTS, name)
    path = _uploads() / Path(name.removesuffix(INPUT)).name
    if not path.is_file() or os.path.dirname(os.path.realpath(path)) != os.path.realpath(_uploads()):
        raise UserError(f"{name} was not found in input/{UPLOADED}; upload the file again")
    return path


def _uploads() -> Path:
    """Where the button of Load Subject puts files: a folder in ComfyUI's input folder."""
    return Path(folder_paths.get_input_directory()) / UPLOADED


def new_subject_path(name: str) -> Path:
    """The path to save a subject to; creates the folder.

    Raises:
        UserError: the name is invalid, the path is outside the folder, or the folder cannot be created.
    """
    return _new_path(SUBJECTS, name)


def new_probe_path(name: str) -> Path:
    """The path to save a probe to; see `new_subject_path`."""
    return _new_path(PROBES, name)


def new_lora_path(name: str) -> Path:
    """The path to save a LoRA to; see `new_subject_path`."""
    return _new_path(LORAS, name)


def _new_path(kind: str, name: str) -> Path:
    folder = Path(folder_paths.get_folder_paths(kind)[0])
    path = folder / f"{check_name(name)}.safetensors"
    inside = os.path.realpath(folder)
    if os.path.dirname(os.path.realpath(path)) != inside:
        raise UserError(f"{path.name} is a link to outside {inside}; choose another name or remove the link")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be created ({error}); create it, or use another models folder") from error
    return path


def _path(kind: str, name: str) -> Path:
    """The path of a listed file; UserError if it no longer exists."""
    found = folder_paths.get_full_path(kind, name)
    if found is None:
        searched = ", ".join(folder_paths.get_folder_paths(kind))
        raise UserError(f"{name} was not found in {searched}; put the file there and refresh the node list")
    return Path(found)


def changed(path: Path) -> int:
    """A file's modification time in nanoseconds; ComfyUI runs a node again if it differs."""
    return path.stat().st_mtime_ns


def free_name(name: str, is_free: Callable[[str], bool]) -> str:
    """The first of name, name-2, name-3 ... that is free; UserError if the name is invalid."""
    name = check_name(name)
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    return next(filter(is_free, (name[: MAX_NAME - len(ending)].rstrip() + ending for ending in endings)))


def root_folders() -> list[str]:
    """The folders of this installation, which no message needs to name."""
    return [folder_paths.base_path, os.path.dirname(os.path.realpath(str(folder_paths.__file__)))]
