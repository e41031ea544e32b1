"""Nodes that need no probe: initial words from CLIP, and gradient steps on any words."""
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..hybridbooth_core.files.subject import Subject
from ..hybridbooth_core.probe_free.inversion import InversionConfig
from ..hybridbooth_core.probe_free.refining import REFINING, refine_subject
from ..hybridbooth_core.probe_free.start import StartConfig, initial_embeddings
from .host.model import host_model
from .host.references import node_reference, node_report
from .host.session import preview_of, progress
from .host.text_model import clip_space_of, host_text
from .schema import (
    IMAGE_TOOLTIP,
    MASK_TOOLTIP,
    NOISE_SEED_TOOLTIP,
    STEPS,
    ComfyNode,
    Schema,
    SubjectSocket,
    caption_input,
    invert_input,
    model_inputs,
    preview_input,
    refined_outputs,
    seed_input,
)


class ProbeFreeStart(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_ProbeFreeStart",
            category=STEPS,
            display_name="Probe-Free Start",
            description=(
                "Initial words without a probe: the class noun, given by you or found by CLIP, is optimized to match the image in CLIP's "
                "embedding space. They describe the kind of thing only; follow with about 30 steps of Refine Subject (a probe needs 5)."
            ),
            search_aliases=["hybridbooth", "personalize", "textual inversion", "interrogate"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of the model you will generate with. Clip skip has no effect here."),
                io.Image.Input("image", tooltip=IMAGE_TOOLTIP),
                io.Mask.Input("mask", optional=True, tooltip=MASK_TOOLTIP),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP ViT-L/14 from Load CLIP Vision. The full CLIP file is needed as well: see Download Encoders.",
                ),
                io.String.Input(
                    "class_word", display_name="class noun", default="", tooltip="What the subject is, in one noun. Empty: CLIP finds one."
                ),
                io.Int.Input(
                    "words",
                    default=StartConfig.num_tokens,
                    min=1,
                    max=16,
                    tooltip="Number of words (token embeddings) per subject; usually 5.",
                ),
                io.Int.Input(
                    "inversion_steps",
                    default=InversionConfig.steps,
                    min=0,
                    max=1000,
                    tooltip="Optimization steps in CLIP's embedding space; the UNet is not used. 0 keeps the plain noun.",
                ),
                invert_input(),
            ],
            outputs=[
                SubjectSocket.Output(display_name="subject", tooltip="The initial words, for Refine Subject."),
                io.String.Output(display_name="report", tooltip="The noun that was used and what CLIP found, for Preview as Text."),
            ],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        image: Tensor,
        class_word: str,
        words: int,
        inversion_steps: int,
        mask: Tensor | None = None,
        clip_vision: Any = None,
        invert_mask: bool = False,
    ) -> io.NodeOutput:
        config = StartConfig(num_tokens=words, inversion=replace(InversionConfig(), steps=inversion_steps))
        with host_text(clip) as host:
            space, ref = clip_space_of(clip, clip_vision), node_reference(image, mask, invert_mask)
            start = initial_embeddings(host, space, ref, class_word, config, progress())
        return io.NodeOutput(start.subject, start.report())


class RefineSubject(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_RefineSubject",
            category=STEPS,
            display_name="Refine Subject",
            description=(
                "Optimizes a subject's words to match the image. Use it after Probe-Free Start or Initial Words, or to adapt a saved "
                "subject to another checkpoint. MODEL, CLIP and VAE are not changed."
            ),
            search_aliases=["hybridbooth", "personalize", "textual inversion"],
            inputs=[
                *model_inputs(),
                SubjectSocket.Input("subject", tooltip="The subject to start from."),
                io.Image.Input("image", tooltip=IMAGE_TOOLTIP),
                io.Mask.Input("mask", optional=True, tooltip=MASK_TOOLTIP),
                io.Int.Input(
                    "steps", default=REFINING.steps, min=0, max=1000, tooltip="Gradient steps; 20 to 40 after a probe-free start."
                ),
                io.Float.Input(
                    "effective_step",
                    display_name="step size",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    round=False,
                    tooltip=f"Step size as a fraction of the embedding's norm; 0 uses the default ({REFINING.step_size}).",
                ),
                seed_input(NOISE_SEED_TOOLTIP),
                invert_input(),
                preview_input(),
                caption_input(),
            ],
            outputs=refined_outputs(),
        )

    @classmethod
    def execute(
        cls, model: Any, clip: Any, vae: Any, subject: Subject, image: Tensor, steps: int, effective_step: float, seed: int,
        mask: Tensor | None = None, invert_mask: bool = False, preview: bool = True, caption: str = "",
    ) -> io.NodeOutput:  # fmt: skip
        config = replace(REFINING, steps=steps, step_size=effective_step or REFINING.step_size, caption=caption, seed=seed)
        with host_model(model, clip, vae) as host:
            ref = node_reference(image, mask, invert_mask)
            result = refine_subject(host, ref, subject, config, progress(preview_of(host) if preview else None))
            report, drawn = node_report(host, ref, result.subject, result.report())
        return io.NodeOutput(result.subject, report, drawn, ui=ui.PreviewImage(drawn, cls=cls))
