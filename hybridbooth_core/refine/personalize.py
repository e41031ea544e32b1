"""The main job: reference images of a subject in, its words out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..encoders.features import Reference
from ..files.subject import Subject, SubjectInfo
from ..models.adapter import DiffusionModel, check_family, class_embedding
from ..models.memory import gigabytes
from ..probe.probe import Features, Probe
from .refine import RefineConfig, Refinement, refine


@dataclass(frozen=True, eq=False)
class Personalization:
    """The subject, and how it came about."""

    subject: Subject
    refinement: Refinement

    @property
    def start(self) -> Tensor:
        """The probe's guess [n, d], before any step."""
        return self.refinement.start

    def report(self) -> str:
        """A few lines for a person."""
        r = self.refinement
        curve = " ".join(f"{loss:.4f}" for loss in r.validation)
        lines = [
            f"{len(r.losses)} steps ({self.subject.info.method}, effective step {r.step_size:g})",
            f"validation loss after 0, 1, 2 ... steps: {curve}",
            f"kept: step {r.best_step} x {r.stretch:g}; the words moved by {100 * r.relative_change:.3g} % of their length",
        ]
        lines.append(_memory(r))
        if r.relative_changes and r.relative_changes[-1] < 1e-3:
            lines.append(
                f"warning: the steps moved the words by {r.relative_changes[-1]:.1e} of their length only; raise the effective step"
            )
        return "\n".join(lines)


def _memory(r: Refinement) -> str:
    """What the steps took of the memory, as far as anybody knows, and how they were fitted into it."""
    known = ""
    if r.memory is not None:
        guess = "" if r.memory_estimate is None else f" (estimated {gigabytes(r.memory_estimate)})"
        known = f"peak memory {gigabytes(r.memory.total)}, of which the steps took {gigabytes(r.memory.grown)}{guess}; "
    return f"{known}{r.plan}"


def check_probe(model: DiffusionModel, probe: Probe) -> None:
    """UserError unless the probe's words are for this family of models."""
    check_family(model, "the probe", probe.config.width, probe.config.family, probe.config.base_model)


def personalize(
    model: DiffusionModel,
    probe: Probe,
    ref: Reference,
    features: Features,
    class_noun: str,
    config: RefineConfig | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Personalization:
    """Guess the words of a subject with the probe and refine them.

    Args:
        ref, features: of the same images (`features.reference`, `features.extract_features`).
        on_step: as in `refine`.
    Raises:
        UserError: probe and model do not belong together, no class noun, or what `refine` raises.
    """
    config = config or RefineConfig()
    check_probe(model, probe)
    with torch.no_grad():
        noun = class_embedding(model, class_noun)
    result = refine(model, ref, noun, config, probe, features, on_step=on_step)
    method = result.mode if config.steps else "none"
    info = SubjectInfo(class_noun=class_noun.strip(), probe=probe.config.trained_on, method=method)
    return personalization(model, ref, info, config, result)


def personalization(model: DiffusionModel, ref: Reference, info: SubjectInfo, config: RefineConfig, result: Refinement) -> Personalization:
    """The subject of a refinement: `info` with all that the refinement and its model say of it."""
    told = replace(
        info,
        family=model.family,
        base_model=model.name,
        base_fingerprint=model.fingerprint,
        steps=len(result.losses),
        best_step=result.best_step,
        step_size=result.step_size,
        relative_change=result.relative_change,
        seed=config.seed,
        images=len(ref.images),
        validation=[round(loss, 6) for loss in result.validation],
    )
    return Personalization(Subject(result.embeddings, told), result)
