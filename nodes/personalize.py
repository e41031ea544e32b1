"""The node that most people need: from a model, a photo and a noun to a CLIP that knows the subject."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..hybridbooth_core.probe.probe import Probe
from .host.personalize import Wired, personalize_best
from .host.references import node_reference
from .host.session import outside_inference_mode
from .host.subjects import with_subject
from .schema import (
    FIRST,
    IMAGE_TOOLTIP,
    MASK_TOOLTIP,
    NAME_TOOLTIP,
    NOISE_SEED_TOOLTIP,
    ComfyNode,
    ProbeSocket,
    Schema,
    caption_input,
    invert_input,
    model_inputs,
    noun_input,
    preview_input,
    refined_outputs,
    seed_input,
)
from .validation import name_problem, noun_problem


class PersonalizeSubject(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        subject, report, drawn = refined_outputs()
        return Schema(
            node_id="HybridBooth_PersonalizeSubject",
            category=FIRST,
            display_name="Personalize Subject",
            description=(
                "Learns a subject from a photo: prompts through the CLIP of this node can then name it, as in 'a photo of <subject> on a "
                "beach'. Needs a Stable Diffusion 1.5 checkpoint and nothing else. The start is a probe's prediction if a probe is "
                "connected; else the class noun, fitted in CLIP's space if CLIP ViT-L/14 is there (Download Encoders, 1.71 GB). The report "
                "says which. MODEL, CLIP and VAE are not changed."
            ),
            search_aliases=[
                "hybridbooth", "ipadapter", "ip-adapter", "reference", "face", "character", "consistent character", "dreambooth",
                "textual inversion", "train", "lora", "personalize", "instantid", "photomaker",
            ],
            inputs=[
                *model_inputs(),
                io.Image.Input("image", tooltip=IMAGE_TOOLTIP),
                io.Mask.Input("mask", optional=True, tooltip=MASK_TOOLTIP),
                ProbeSocket.Input("probe", optional=True, tooltip="From Load Probe, for this base model. Ten to 25 steps then suffice."),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP ViT-L/14 from Load CLIP Vision. If not connected, a file is used if there is one.",
                ),
                noun_input(),
                io.String.Input(
                    "name", default="subject", tooltip=NAME_TOOLTIP
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Gradient steps through the model. 0: as many as the start needs, 10 or 25 after a probe, else 30.",
                ),
                seed_input(NOISE_SEED_TOOLTIP),
                preview_input(),
                invert_input(),
                caption_input(),
            ],
            outputs=[
                io.Clip.Output(tooltip="A CLIP that knows <name>, for the CLIP Text Encode of both prompts."),
                subject,
                drawn,
                report,
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, class_word: str | None = None, name: str | None = None) -> bool | str:
        return noun_problem(class_word) or name_problem(name) or True

    @classmethod
    def execute(
        cls, model: Any, clip: Any, vae: Any, image: Tensor, class_word: str, name: str, steps: int, seed: int, preview: bool = True,
        mask: Tensor | None = None, probe: Probe | None = None, clip_vision: Any = None, invert_mask: bool = False,
        caption: str = "",
    ) -> io.NodeOutput:  # fmt: skip
        with outside_inference_mode():
            ref = node_reference(image, mask, invert_mask)
            made = personalize_best(Wired(model, clip, vae, probe, clip_vision), ref, class_word, steps, seed, preview, caption)
        patched = with_subject(clip, made.subject, name, 1.0)
        return io.NodeOutput(patched, made.subject, made.drawn, made.report, ui=ui.PreviewImage(made.drawn, cls=cls))
