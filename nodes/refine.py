"""The node that does the work: the probe's guess, refined by a few gradient steps through the frozen model."""
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from comfy_api.latest import io, ui

from ..hybridbooth_core.encoders.features import Reference
from ..hybridbooth_core.probe.probe import Features, Probe
from ..hybridbooth_core.refine.personalize import personalize
from ..hybridbooth_core.refine.refine import Mode, RefineConfig
from ..hybridbooth_core.report.subject_report import subject_report
from .host.model import host_model
from .host.session import progress
from .schema import FeaturesSocket, ProbeSocket, model_inputs, refined_outputs, schema, seed_input


class RefineEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RefineEmbedding",
            display_name="Refine Embedding (residual)",
            description=(
                "Guesses the subject's words with the probe, then brings them closer to the image by a few steps through the model. "
                "Model, CLIP and VAE stay as they are. By its own measure refining never makes a subject worse."
            ),
            search_aliases=["hybridbooth", "personalize", "dreambooth", "textual inversion"],
            inputs=[
                *model_inputs(),
                ProbeSocket.Input("probe", tooltip="The probe that guesses the words to start from."),
                FeaturesSocket.Input("features", tooltip="The subject's image, from Extract CLIP+DINO Features with the same probe."),
                io.String.Input("class_word", default="", tooltip="What kind of thing the subject is, in one noun: cat, backpack, robot."),
                io.Combo.Input(
                    "mode",
                    options=list(get_args(Mode)),
                    default="auto",
                    tooltip=(
                        "auto: learned where the probe has learnt to step, else residual. learned: the steps that the probe has learnt. "
                        "residual: refine the probe's cross-attentions, the paper's way. words: refine the words themselves. "
                        "paper_literal: the paper's printed constants, which move almost nothing."
                    ),
                ),
                io.Int.Input(
                    "steps", default=5, min=0, max=1000, tooltip="Gradient steps; 3 to 5 from a probe. 0 keeps the probe's guess."
                ),
                io.Float.Input(
                    "effective_step",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.00001,
                    round=False,
                    tooltip="How far one step goes (learned: the share of it that is taken). 0 takes what the probe's file recommends.",
                ),
                seed_input("Of the noise that the steps look at."),
            ],
            outputs=refined_outputs(),
        )

    @classmethod
    def execute(
        cls, model: Any, clip: Any, vae: Any, probe: Probe, features: tuple[Reference, Features], class_word: str,
        mode: Mode, steps: int, effective_step: float, seed: int,
    ) -> io.NodeOutput:  # fmt: skip
        config = RefineConfig(mode=mode, steps=steps, step_size=effective_step or None, seed=seed)
        ref, read = features
        with host_model(model, clip, vae, probe) as host:
            scaled = replace(read, latents=host.scale_latents(read.latents)).to(host.device)
            result = personalize(host, probe, ref, scaled, class_word, config, progress(steps))
            drawn = subject_report(host, ref, result.subject)[None]
        return io.NodeOutput(result.subject, result.report(), drawn, ui=ui.PreviewImage(drawn, cls=cls))
