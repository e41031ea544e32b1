"""The node for longer trainings: Textual Inversion, DreamBooth LoRA and Custom Diffusion on the wired model."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from .host.references import node_reference
from .host.session import outside_inference_mode
from .host.training import METHODS, Training, train_subject
from .schema import (
    IMAGE_TOOLTIP,
    NAME_TOOLTIP,
    TRAINING,
    ComfyNode,
    Schema,
    SubjectSocket,
    model_inputs,
    noun_input,
    preview_input,
    seed_input,
)
from .validation import name_problem, noun_problem


class TrainSubject(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_TrainSubject",
            category=TRAINING,
            display_name="Train Subject (Baselines)",
            description=(
                "Trains a subject on the wired model for hundreds of steps: Textual Inversion (an embedding), DreamBooth as a LoRA, or "
                "Custom Diffusion. The result is saved in forms that stock nodes load, and applied to MODEL and CLIP. Personalize Subject "
                "takes a tenth of the steps. The wired MODEL and CLIP are not changed."
            ),
            search_aliases=["hybridbooth", "train", "lora", "dreambooth", "textual inversion", "custom diffusion", "character", "face"],
            is_output_node=True,
            inputs=[
                *model_inputs(),
                io.Image.Input("image", tooltip=IMAGE_TOOLTIP),
                io.Mask.Input("mask", optional=True, tooltip="Only decides where the images are cropped: these methods know no masks."),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default=METHODS[0],
                    tooltip=(
                        "textual_inversion_5: five new token embeddings; textual_inversion: one. dreambooth_lora: a LoRA of the "
                        "attentions. lidb: Lightweight DreamBooth, 30,000 numbers. custom_diffusion: keys and values of the "
                        "cross-attentions and a new token."
                    ),
                ),
                noun_input(),
                io.String.Input("name", default="subject", tooltip=NAME_TOOLTIP + " Also the name of the saved file."),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip="Training steps. 0: as published for Stable Diffusion 1.5 (3000, 500 for a LoRA, 250 for Custom Diffusion).",
                ),
                io.Float.Input(
                    "learning_rate", display_name="learning rate", default=0.0, min=0.0, max=1.0, step=0.000001, round=False,
                    tooltip="0: as published (5e-4, 1e-4 for a LoRA, 1e-5 for Custom Diffusion).",
                ),
                io.Int.Input("rank", default=4, min=1, max=128, tooltip="Rank of the LoRA; of no effect on other methods."),
                io.Int.Input(
                    "prior_images",
                    display_name="prior images",
                    default=8,
                    min=0,
                    max=1000,
                    tooltip="Images of the class, drawn first, that keep the model from forgetting it; 200 as published. 0: none.",
                ),
                seed_input("Seed of the training's noise and of the class images."),
                preview_input(),
            ],
            outputs=[
                io.Model.Output(tooltip="The MODEL with the trained weights; of Textual Inversion the MODEL as it was."),
                io.Clip.Output(tooltip="A CLIP that knows <name>, for the CLIP Text Encode of both prompts."),
                SubjectSocket.Output(display_name="subject", tooltip="The embeddings of Textual Inversion; other methods make no subject."),
                io.Image.Output(display_name="image", tooltip="The subject report of embeddings; of weights an image drawn with them."),
                io.String.Output(display_name="report", tooltip="Steps, losses, and how to load the file, for Preview as Text."),
                io.String.Output(display_name="file name", tooltip="The file in models/loras, embeddings, or (lidb) hybridbooth."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, class_word: str | None = None, name: str | None = None) -> bool | str:
        return noun_problem(class_word) or name_problem(name) or True

    @classmethod
    def execute(
        cls, model: Any, clip: Any, vae: Any, image: Tensor, method: str, class_word: str, name: str, steps: int, learning_rate: float,
        rank: int, prior_images: int, seed: int, preview: bool = True, mask: Tensor | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        training = Training(method, class_word, name, steps, learning_rate, rank, prior_images, seed, preview)
        with outside_inference_mode():
            made = train_subject(model, clip, vae, node_reference(image, mask), training)
        shown = ui.PreviewImage(made.image, cls=cls)
        return io.NodeOutput(made.model, made.clip, made.subject, made.image, made.report, made.file, ui=shown)
