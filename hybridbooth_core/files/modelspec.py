"""The ModelSpec entries of a file's metadata (Stability AI's sai_modelspec 1.0.0), which other programs show and sort by."""

from __future__ import annotations

ARCHITECTURES = ("stable-diffusion-v1", "stable-diffusion-xl-v1-base")


def modelspec(title: str, trigger: str, family: str, kind: str) -> dict[str, str]:
    """The entries of a file made for a family of base models. `kind` is "textual-inversion", "lora" or "" for a whole model.

    A family that the standard does not name, such as the miniature, gets no architecture.
    """
    entries = {"modelspec.sai_model_spec": "1.0.0", "modelspec.title": title, "modelspec.trigger_phrase": trigger}
    if family in ARCHITECTURES:
        entries["modelspec.architecture"] = "/".join(filter(None, (family, kind)))
    return entries
