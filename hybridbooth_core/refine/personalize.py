"""Personalization with a probe: predicts and refines a subject's token embeddings from its reference images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..encoders.features import Reference
from ..files.subject import Subject, SubjectInfo
from ..models.adapter import DiffusionModel, check_family, class_embedding
from ..models.memory import gigabytes
from ..models.progress import OnStep
from ..probe.probe import Features, Probe
from .refine import RefineConfig, Refinement, refine
from .unlikeness import Decision, likeness


@dataclass(frozen=True, eq=False)
class Personalization:
    """A subject and its refinement."""

    subject: Subject
    refinement: Refinement

    @property
    def start(self) -> Tensor:
        """The initial embeddings [n, d]."""
        return self.refinement.start

    def report(self) -> str:
        """A few lines for users: how unlike the subject is, steps, validation losses, memory and warnings."""
        r = self.refinement
        curve = ", ".join(f"{loss:.4f} after {step}" for step, loss in zip(r.validated, r.validation, strict=True))
        lines = [
            f"{_said(r.decision)}{len(r.losses)} steps ({self.subject.info.method}, step size {r.step_size:g}{_tied(r.decision)})",
            f"loss on fixed noise by steps: {curve}; the words changed by {100 * r.relative_change:.3g} %",
        ]
        lines.append(_memory(r))
        if r.relative_changes and r.relative_changes[-1] < 1e-3:
            lines.append(f"warning: the steps changed the words by only {100 * r.relative_changes[-1]:.1g} %; increase the step size")
        return "\n".join(lines)


def _said(decision: Decision) -> str:
    """How unlike the subject is, in words."""
    if decision.unlikeness is None:
        return ""
    weak = "; the probe is weak, so all subjects take many steps" if decision.weak else ""
    usual = f"{decision.unlikeness:.1f}x the usual gradient"
    return f"the subject is {likeness(decision.unlikeness)} that the probe was trained on ({usual}){weak}: "


def _tied(decision: Decision) -> str:
    return ", tied to the prediction" if decision.anchor else ""


def _memory(r: Refinement) -> str:
    """The peak memory if it was measured, and the memory plan."""
    measured = ""
    if r.memory is not None:
        estimate = "" if r.memory_estimate is None else f" (estimated {gigabytes(r.memory_estimate)})"
        measured = f"peak memory {gigabytes(r.memory.total)}, {gigabytes(r.memory.grown)} of it for the steps{estimate}; "
    return f"{measured}{r.plan}"


def check_probe(model: DiffusionModel, probe: Probe) -> None:
    """UserError if the probe was made for another family of models."""
    check_family(model, "the probe", probe.config.width, probe.config.family, probe.config.base_model)


def personalize(
    model: DiffusionModel,
    probe: Probe,
    ref: Reference,
    features: Features,
    class_noun: str,
    config: RefineConfig | None = None,
    on_step: OnStep | None = None,
) -> Personalization:
    """Predicts a subject's token embeddings with the probe and refines them.

    Args:
        ref, features: of the same images (`encoders.features.reference` and `extract_features`).
        on_step: as in `refine`.
    Raises:
        UserError: the probe is for another family of models, the class noun is empty or unknown, or `refine` raises.
    """
    config = config or RefineConfig()
    check_probe(model, probe)
    with torch.no_grad():
        noun = class_embedding(model, class_noun)
    result = refine(model, ref, noun, config, probe, features, on_step=on_step)
    method = result.mode if result.losses else "none"
    info = SubjectInfo(class_noun=class_noun.strip(), probe=probe.config.trained_on, method=method)
    return personalization(model, ref, info, config, result)


def personalization(model: DiffusionModel, ref: Reference, info: SubjectInfo, config: RefineConfig, result: Refinement) -> Personalization:
    """The subject of a refinement, with the refinement's and the model's metadata added to `info`."""
    complete = replace(
        info,
        family=model.family,
        base_model=model.name,
        base_fingerprint=model.fingerprint,
        steps=len(result.losses),
        unlikeness=round(result.decision.unlikeness or 0.0, 3),
        step_size=result.step_size,
        relative_change=result.relative_change,
        seed=config.seed,
        images=len(ref.images),
        validation=[round(loss, 6) for loss in result.validation],
        validated=result.validated,
    )
    return Personalization(Subject(result.embeddings, complete), result)
