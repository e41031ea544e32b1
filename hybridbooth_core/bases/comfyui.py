"""A ComfyUI folder as it lies on disk: where its checkpoints, encoders and embeddings are. Nothing of ComfyUI is imported or run."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError

EXTRA = "extra_model_paths.yaml"


def model_folders(comfyui: Path, kind: str) -> list[Path]:
    """The folders for a kind of model ("checkpoints", "clip_vision", "embeddings", "hybridbooth"), those of EXTRA included.

    Raises:
        UserError: `comfyui` is no ComfyUI folder, or its EXTRA is damaged.
    """
    if not (comfyui / "models").is_dir():
        raise UserError(f"expected a ComfyUI folder with models/ in it, found {comfyui}; give the folder that holds main.py")
    return [comfyui / "models" / kind, *_extra(comfyui, kind)]


def find_model(comfyui: Path, kind: str, name: str) -> Path | None:
    """The file `name` (with or without `.safetensors`, inner folders allowed) of a kind; None if there is none."""
    for folder in model_folders(comfyui, kind):
        for candidate in (folder / name, folder / f"{name}.safetensors"):
            inside = candidate.resolve().is_relative_to(folder.resolve()) or candidate.is_symlink()
            if inside and candidate.is_file():
                return candidate
    return None


def list_models(comfyui: Path, kind: str) -> list[str]:
    """The names of all `.safetensors` of a kind, as `find_model` takes them."""
    found = {
        str(path.relative_to(folder))
        for folder in model_folders(comfyui, kind)
        if folder.is_dir()
        for path in folder.rglob("*.safetensors")
    }
    return sorted(found)


def encoder_folders(comfyui: Path) -> list[Path]:
    """Where a probe's encoders may be, as the nodes look for them."""
    return [folder for kind in ("hybridbooth", "clip_vision", "diffusers") for folder in model_folders(comfyui, kind) if folder.is_dir()]


def _extra(comfyui: Path, kind: str) -> list[Path]:
    listing = comfyui / EXTRA
    if not listing.is_file():
        return []
    import yaml

    try:
        table = yaml.safe_load(listing.read_text(encoding="utf-8-sig")) or {}
        sections = [section for section in table.values() if isinstance(section, dict)]
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{listing} cannot be read ({str(error).splitlines()[0][:120]}); fix it, or leave --comfyui out") from error
    folders = []
    for section in sections:
        base = comfyui / Path(str(section.get("base_path") or ".")).expanduser()
        folders += [base / line.strip() for line in str(section.get(kind) or "").splitlines() if line.strip()]
    return folders
