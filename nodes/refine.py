"""The main node: the probe's prediction, refined by a few gradient steps through the frozen model."""
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, get_args

from comfy_api.latest import io, ui

from ..hybridbooth_core.encoders.features import Reference
from ..hybridbooth_core.probe.probe import Features, Probe
from ..hybridbooth_core.refine.config import FAR_STEPS, NEAR_STEPS
from ..hybridbooth_core.refine.personalize import personalize
from ..hybridbooth_core.refine.refine import Mode, RefineConfig
from .host.model import host_model
from .host.references import node_report
from .host.session import preview_of, progress
from .schema import (
    NOISE_SEED_TOOLTIP,
    PROBE,
    ComfyNode,
    FeaturesSocket,
    ProbeSocket,
    Schema,
    caption_input,
    model_inputs,
    noun_input,
    preview_input,
    refined_outputs,
    seed_input,
)
from .validation import noun_problem

OFFERED = ("auto", "words", "residual")
"""The modes in the menu: the default, and the paper's form. "paper_literal" wins nowhere (docs/findings.md)."""
GONE = ("learned",)
"""Modes of older graphs that are no more."""

log = logging.getLogger("hybridbooth")


class RefineEmbedding(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_RefineEmbedding",
            category=PROBE,
            display_name="Refine Embedding (residual)",
            description=(
                "Predicts the subject's words with the probe, then refines them by a few gradient steps through the model. MODEL, CLIP "
                "and VAE are not changed. The first step's gradient says how unlike the probe's training the subject is, and so how many "
                "steps it needs; the report tells."
            ),
            search_aliases=["hybridbooth", "personalize", "dreambooth", "textual inversion"],
            inputs=[
                *model_inputs(),
                ProbeSocket.Input("probe", tooltip="The probe that predicts the initial words."),
                FeaturesSocket.Input("features", tooltip="From Extract CLIP+DINO Features with the same probe."),
                noun_input(),
                io.Combo.Input(
                    "mode",
                    options=list(OFFERED),
                    default="auto",
                    tooltip="words (and auto): optimize the words. residual: optimize the probe's cross-attentions, as in the paper.",
                ),
                io.Int.Input(
                    "steps",
                    default=-1,
                    min=-1,
                    max=1000,
                    tooltip=f"Gradient steps. -1: as many as the subject needs ({NEAR_STEPS}, or {FAR_STEPS} for one unlike the probe's "
                    "training). 0 keeps the prediction.",
                ),
                io.Float.Input(
                    "effective_step",
                    display_name="step size",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.00001,
                    round=False,
                    tooltip="Step size as a fraction of a word's norm. 0 uses the default.",
                ),
                seed_input(NOISE_SEED_TOOLTIP),
                preview_input(),
                caption_input(),
            ],
            outputs=refined_outputs(),
        )

    @classmethod
    def validate_inputs(cls, class_word: str | None = None, mode: str | None = None) -> bool | str:
        if mode is not None and mode not in (*get_args(Mode), *GONE):  # those of older graphs are known, though not offered
            return f"expected one of the modes {', '.join(OFFERED)}, found {str(mode)[:40]!r}"
        return noun_problem(class_word) or True

    @classmethod
    def execute(
        cls, model: Any, clip: Any, vae: Any, probe: Probe, features: tuple[Reference, Features], class_word: str,
        mode: Mode, steps: int, effective_step: float, seed: int, preview: bool = True,
        caption: str = "",
    ) -> io.NodeOutput:  # fmt: skip
        if mode in GONE:
            log.warning("the mode %s is no more; the words are optimized instead, as by the mode auto", mode)
            mode = "auto"
        config = RefineConfig(mode=mode, steps=None if steps < 0 else steps, step_size=effective_step or None, caption=caption, seed=seed)
        ref, read = features
        with host_model(model, clip, vae, probe) as host:
            scaled = replace(read, latents=host.scale_latents(read.latents)).to(host.device)
            result = personalize(host, probe, ref, scaled, class_word, config, progress(preview_of(host) if preview else None))
            report, drawn = node_report(host, ref, result.subject, result.report())
        return io.NodeOutput(result.subject, report, drawn, ui=ui.PreviewImage(drawn, cls=cls))
