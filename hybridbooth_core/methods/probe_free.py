"""A subject without a probe: initial embeddings found in CLIP's space, then steps on them; see the package `probe_free`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..probe_free.inversion import InversionConfig
from ..probe_free.refining import REFINING, STEP_SIZE, STEPS
from ..probe_free.start import StartConfig, personalize_without_probe
from .artefact import Trained
from .method import Inputs, OnStep, method


@dataclass(frozen=True)
class ProbeFreeConfig:
    """How to start and how to refine.

    Attributes:
        steps, step_size: of Adam on the embeddings; a step moves an embedding by about `step_size` of its norm.
        num_tokens: n embeddings of the subject; the class noun is the last.
        inversion_steps: steps in CLIP's space before.
        caption: what the reference shows; see `refine.captions`.
    """

    steps: int = STEPS
    step_size: float = STEP_SIZE
    num_tokens: int = StartConfig.num_tokens
    inversion_steps: int = InversionConfig.steps
    caption: str = ""
    seed: int = 0


@method("probe_free", "a start found by CLIP, then steps on the embeddings", ProbeFreeConfig, needs=("clip_space",))
def probe_free(inputs: Inputs, config: ProbeFreeConfig, on_step: OnStep | None = None) -> Trained:
    """See `probe_free.start.personalize_without_probe`. An empty class noun lets CLIP find one."""
    assert inputs.clip_space is not None
    start = StartConfig(config.num_tokens, inversion=replace(InversionConfig(), steps=config.inversion_steps))
    refining = replace(REFINING, steps=config.steps, step_size=config.step_size, caption=config.caption, seed=config.seed)
    made, begun = personalize_without_probe(inputs.model, inputs.clip_space, inputs.ref, inputs.class_noun, start, refining, on_step)
    return Trained({config.steps: made.subject}, made.refinement.losses, f"{begun.report()}\n{made.report()}", made.refinement)
