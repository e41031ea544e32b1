"""A subject from whatever is at hand: the best start that there is, then steps through the wired model."""
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ...hybridbooth_core.encoders.catalogue import CLIP_L
from ...hybridbooth_core.encoders.clip_space import ClipSpace
from ...hybridbooth_core.encoders.features import Reference, extract_features
from ...hybridbooth_core.errors import UserError
from ...hybridbooth_core.files.subject import Subject
from ...hybridbooth_core.methods.registry import run_method
from ...hybridbooth_core.models.adapter import class_embedding
from ...hybridbooth_core.probe.probe import Probe
from ...hybridbooth_core.probe_free.refining import REFINING, refine_subject
from ...hybridbooth_core.probe_free.start import METHOD, initial_embeddings
from ...hybridbooth_core.refine.personalize import check_probe
from .model import HostModel, HostVae, host_model
from .references import node_report
from .session import preview_of, progress
from .text_model import clip_space_of, host_text
from .vision import host_encoders


@dataclass(frozen=True, eq=False)
class Wired:
    """The inputs of a node that personalizes."""

    model: Any
    clip: Any
    vae: Any
    probe: Probe | None = None
    clip_vision: Any = None


@dataclass(frozen=True, eq=False)
class Made:
    """A subject, a report for the user as text, and the Subject Report [1, H, W, 3]."""

    subject: Subject
    report: str
    drawn: Tensor


def personalize_best(
    wired: Wired, ref: Reference, class_noun: str, steps: int = 0, seed: int = 0, preview: bool = True, caption: str = ""
) -> Made:
    """Makes a subject from the best start: the probe if there is one, else CLIP's space if its file is there, else the class noun.

    Args:
        steps: 0 takes as many as the start needs.
        caption: see `refine.captions`.
    Raises:
        UserError: an input that does not fit, before any work; or what the start and the refinement raise.
    """
    with host_model(wired.model, wired.clip, wired.vae, wired.probe) as host:
        class_embedding(host, class_noun)  # refuses an empty or unknown one before anything is loaded
        if wired.probe is not None:
            check_probe(host, wired.probe)
            said = "start: the probe's prediction"
            subject, report = _from_probe(host, wired, wired.probe, ref, class_noun, steps, seed, preview, caption)
            return Made(subject, *node_report(host, ref, subject, said, report))
    space, said = _clip_space(wired)
    start, found = None, ""
    if space is not None:
        with host_text(wired.clip) as text:
            begun = initial_embeddings(text, space, ref, class_noun)
            start, found = begun.subject, begun.report()
    with host_model(wired.model, wired.clip, wired.vae) as host:
        config = replace(REFINING, steps=steps or REFINING.steps, caption=caption, seed=seed)
        on_step = progress(preview_of(host) if preview else None)
        if start is not None:
            made = refine_subject(host, ref, start, config, on_step)
            subject, report = made.subject, made.report()
        else:
            trained = run_method("from_noun", host, ref, class_noun, steps=config.steps, seed=seed, on_step=on_step, caption=caption)
            subject, report = trained.artefact, trained.report
        assert isinstance(subject, Subject)
        return Made(subject, *node_report(host, ref, subject, said, found, report))


def _from_probe(
    host: HostModel, wired: Wired, probe: Probe, ref: Reference, class_noun: str, steps: int, seed: int, preview: bool, caption: str
) -> tuple[Subject, str]:
    features = extract_features(HostVae(wired.vae), *host_encoders(probe.config, wired.clip_vision), ref)
    features = replace(features, latents=host.scale_latents(features.latents)).to(host.device)
    on_step = progress(preview_of(host) if preview else None)
    made = run_method(
        "hybridbooth", host, ref, class_noun, steps=steps or None, seed=seed, probe=probe, features=features, on_step=on_step,
        caption=caption,
    )  # fmt: skip
    assert isinstance(made.artefact, Subject)
    return made.artefact, made.report


def _clip_space(wired: Wired) -> tuple[ClipSpace | None, str]:
    """CLIP's joint space if its files are there, and which start follows from that."""
    try:
        return clip_space_of(wired.clip, wired.clip_vision), f"start: the class noun, fitted to the image in CLIP's space ({METHOD})"
    except UserError:
        return None, (
            f"start: the class noun. With {CLIP_L.label} (Download Encoders, {CLIP_L.size / 1e9:.2f} GB) it is fitted to the image in "
            "CLIP's space first; our measurements show a small gain at most"
        )
