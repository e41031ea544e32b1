"""The third stage: a small LoRA learns what a subject's words cannot hold."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..hybridbooth_core.files.subject import Subject
from ..hybridbooth_core.methods.polished import PolishConfig
from .host.references import node_reference
from .host.session import outside_inference_mode
from .host.training import POLISHED, Training, train_subject
from .schema import (
    IMAGE_TOOLTIP,
    MASK_TOOLTIP,
    NAME_TOOLTIP,
    TRAINING,
    ComfyNode,
    Schema,
    SubjectSocket,
    caption_input,
    invert_input,
    model_inputs,
    preview_input,
    seed_input,
)
from .validation import name_problem


class PolishSubject(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_PolishSubject",
            category=TRAINING,
            display_name="Polish Subject (LoRA)",
            description=(
                "Trains a small LoRA around a subject's words, in some thirty steps, for a subject that words alone do not catch. It "
                "is saved with the words in forms that stock nodes load, and applied to MODEL and CLIP. The wired MODEL and CLIP are not "
                "changed. Try a caption first: in our measurements it brings as much and costs nothing."
            ),
            search_aliases=["hybridbooth", "lora", "polish", "train", "dreambooth", "finetune"],
            is_output_node=True,
            inputs=[
                *model_inputs(),
                SubjectSocket.Input("subject", tooltip="From Personalize Subject, Refine Embedding or Load Subject."),
                io.Image.Input("image", tooltip=IMAGE_TOOLTIP),
                io.Mask.Input("mask", optional=True, tooltip=MASK_TOOLTIP),
                io.String.Input("name", default="subject", tooltip=NAME_TOOLTIP + " Also the name of the saved files."),
                io.Int.Input("steps", default=PolishConfig.steps, min=1, max=1000, tooltip="Training steps; 20 to 40 are usual."),
                io.Int.Input("rank", default=PolishConfig.rank, min=1, max=128, tooltip="Rank of the LoRA."),
                io.Float.Input(
                    "learning_rate", display_name="learning rate", default=0.0, min=0.0, max=1.0, step=0.000001, round=False,
                    tooltip=f"0: the default for this family of models ({PolishConfig.learning_rate:g} for Stable Diffusion 1.5).",
                ),
                seed_input("Seed of the training's noise and of the LoRA's start."),
                preview_input(),
                invert_input(),
                caption_input(),
            ],
            outputs=[
                io.Model.Output(tooltip="The MODEL with the LoRA."),
                io.Clip.Output(tooltip="A CLIP that knows <name>, for the CLIP Text Encode of both prompts."),
                SubjectSocket.Output(display_name="subject", tooltip="The words, as they were."),
                io.Image.Output(display_name="image", tooltip="An image drawn with the LoRA."),
                io.String.Output(display_name="report", tooltip="Steps, losses, and how to load the files, for Preview as Text."),
                io.String.Output(display_name="file name", tooltip="The file in models/loras; the words have the same name in embeddings."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return name_problem(name) or True

    @classmethod
    def execute(
        cls, model: Any, clip: Any, vae: Any, subject: Subject, image: Tensor, name: str, steps: int, rank: int, learning_rate: float,
        seed: int, preview: bool = True, mask: Tensor | None = None, invert_mask: bool = False, caption: str = "",
    ) -> io.NodeOutput:  # fmt: skip
        training = Training(POLISHED, subject.info.class_noun, name, steps, learning_rate, rank, 0, seed, preview, caption)
        with outside_inference_mode():
            made = train_subject(model, clip, vae, node_reference(image, mask, invert_mask), training, subject)
        shown = ui.PreviewImage(made.image, cls=cls)
        return io.NodeOutput(made.model, made.clip, made.subject, made.image, made.report, made.file, ui=shown)
