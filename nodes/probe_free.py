"""Nodes for those who have no probe: first words by CLIP, and steps on any words."""
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..hybridbooth_core.encoders.features import reference
from ..hybridbooth_core.files.subject import Subject
from ..hybridbooth_core.probe_free.inversion import InversionConfig
from ..hybridbooth_core.probe_free.refining import REFINING, refine_subject
from ..hybridbooth_core.probe_free.start import StartConfig, initial_embeddings
from ..hybridbooth_core.report.subject_report import subject_report
from .host.model import host_model
from .host.session import progress
from .host.words import clip_space_of, host_text
from .schema import SubjectSocket, model_inputs, refined_outputs, schema, seed_input

MASK_TOOLTIP = "1 on the subject, 0 on the background, of the image's size. Without it the background is learnt as well."


class ProbeFreeStart(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ProbeFreeStart",
            display_name="Probe-Free Start",
            description=(
                "First words of a subject where there is no probe: the class noun, given or found by CLIP, turned towards the image in "
                "CLIP's space. They say what kind of thing it is; Refine Subject then takes some 30 steps, where a probe needs 5."
            ),
            search_aliases=["hybridbooth", "personalize", "textual inversion", "interrogate"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of the model that the words are for. Clip skip on it does not count here."),
                io.Image.Input("image", tooltip="One image of the subject, or a batch of images of the same subject."),
                io.Mask.Input("mask", optional=True, tooltip=MASK_TOOLTIP),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP ViT-L/14 from the stock Load CLIP Vision. The whole CLIP's file is needed too: see Download Encoders.",
                ),
                io.String.Input("class_word", default="", tooltip="What kind of thing the subject is, in one noun. Empty: CLIP finds one."),
                io.Int.Input(
                    "words", default=StartConfig.num_tokens, min=1, max=16, tooltip="How many words stand for the subject; 5 are usual."
                ),
                io.Int.Input(
                    "inversion_steps",
                    default=InversionConfig.steps,
                    min=0,
                    max=1000,
                    tooltip="Steps in CLIP's space, through the text encoder alone. 0 keeps the plain noun.",
                ),
            ],
            outputs=[SubjectSocket.Output(display_name="subject"), io.String.Output(display_name="report")],
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
    ) -> io.NodeOutput:
        config = StartConfig(num_tokens=words, inversion=replace(InversionConfig(), steps=inversion_steps))
        with host_text(clip) as host:
            space, ref = clip_space_of(clip, clip_vision), reference(image, mask)
            start = initial_embeddings(host, space, ref, class_word, config, progress(inversion_steps))
        return io.NodeOutput(start.subject, start.report())


class RefineSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RefineSubject",
            display_name="Refine Subject",
            description=(
                "Brings any words closer to the image by steps on the words themselves: those of Probe-Free Start or Guess Words, or a "
                "loaded subject that is to fit another checkpoint. Model, CLIP and VAE stay as they are."
            ),
            search_aliases=["hybridbooth", "personalize", "textual inversion"],
            inputs=[
                *model_inputs(),
                SubjectSocket.Input("subject", tooltip="The words to start from."),
                io.Image.Input("image", tooltip="One image of the subject, or a batch of images of the same subject."),
                io.Mask.Input("mask", optional=True, tooltip=MASK_TOOLTIP),
                io.Int.Input("steps", default=REFINING.steps, min=0, max=1000, tooltip="Gradient steps; 20 to 40 without a probe."),
                io.Float.Input(
                    "effective_step",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    round=False,
                    tooltip=f"How far one step goes, as a share of a word's length. 0 suits words far off: {REFINING.step_size}.",
                ),
                seed_input("Of the noise that the steps look at."),
            ],
            outputs=refined_outputs(),
        )

    @classmethod
    def execute(
        cls, model: Any, clip: Any, vae: Any, subject: Subject, image: Tensor, steps: int, effective_step: float, seed: int,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        config = replace(REFINING, steps=steps, effective_step=effective_step or REFINING.step_size, seed=seed)
        with host_model(model, clip, vae) as host:
            ref = reference(image, mask)
            result = refine_subject(host, ref, subject, config, progress(steps))
            drawn = subject_report(host, ref, result.subject)[None]
        return io.NodeOutput(result.subject, result.report(), drawn, ui=ui.PreviewImage(drawn, cls=cls))
