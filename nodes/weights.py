"""Nodes for predicted weights: HyperDreamBooth's hypernetwork, finetuning, and weights as files."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..hybridbooth_core.files.adapter_weights import AdapterWeights
from ..hybridbooth_core.methods.hyperdreambooth import HyperDreamBoothConfig
from ..hybridbooth_core.miniature.bundle import load_hypernetwork
from ..hybridbooth_core.probe.hypernetwork import Hypernetwork
from .host.folders import changed, files_of, probe_path
from .host.hyper import Finetuning, apply_weights, finetuned, predict_weights, save_weights, weights_files
from .host.references import node_reference
from .host.session import outside_inference_mode
from .schema import (
    IMAGE_TOOLTIP,
    MASK_TOOLTIP,
    NAME_TOOLTIP,
    WEIGHTS,
    ComfyNode,
    HypernetworkSocket,
    Schema,
    WeightsSocket,
    caption_input,
    invert_input,
    model_inputs,
    noun_input,
    preview_input,
    seed_input,
)
from .validation import name_problem, noun_problem

BUILT_IN = "miniature"
FORMAT = f"hybridbooth.{Hypernetwork.kind}"


class LoadHypernetwork(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_LoadHypernetwork",
            category=WEIGHTS,
            display_name="Load Hypernetwork",
            description=(
                "Loads a hypernetwork of HyperDreamBooth: a network that predicts a small set of weights from one look at an image. It "
                "fits one base model; 'about' names it, the training data and the licence."
            ),
            search_aliases=["hybridbooth", "hyperdreambooth", "hypernetwork"],
            inputs=[
                io.Combo.Input(
                    "hypernetwork",
                    options=[BUILT_IN, *files_of(FORMAT)],
                    default=BUILT_IN,
                    tooltip="'miniature' ships with this pack, for Load Miniature World. The others are files in models/hybridbooth.",
                )
            ],
            outputs=[
                HypernetworkSocket.Output(display_name="hypernetwork", tooltip="For Predict Weights."),
                io.String.Output(display_name="about", tooltip="Its base model, training data, licence and encoders, for Preview as Text."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, hypernetwork: str) -> int:
        return 0 if hypernetwork == BUILT_IN else changed(probe_path(hypernetwork))

    @classmethod
    def execute(cls, hypernetwork: str) -> io.NodeOutput:
        with outside_inference_mode():
            loaded = load_hypernetwork() if hypernetwork == BUILT_IN else Hypernetwork.load(probe_path(hypernetwork))
        return io.NodeOutput(loaded, loaded.about())


class PredictWeights(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_PredictWeights",
            category=WEIGHTS,
            display_name="Predict Weights",
            description="Predicts a subject's weights from one or more images, without a training step. Finetune Weights improves on them.",
            search_aliases=["hybridbooth", "hyperdreambooth", "lora"],
            inputs=[
                HypernetworkSocket.Input("hypernetwork", tooltip="From Load Hypernetwork."),
                *model_inputs(),
                io.Image.Input("image", tooltip=IMAGE_TOOLTIP),
                io.Mask.Input("mask", optional=True, tooltip=MASK_TOOLTIP),
                noun_input(),
                io.ClipVision.Input(
                    "clip_vision", optional=True, tooltip="CLIP ViT-L/14 from Load CLIP Vision. If not connected, a file is used."
                ),
                invert_input(),
            ],
            outputs=[
                WeightsSocket.Output(display_name="weights", tooltip="For Apply Weights, Finetune Weights and Save Weights."),
                io.String.Output(display_name="report", tooltip="What was predicted, for Preview as Text."),
            ],
        )

    @classmethod
    def validate_inputs(cls, class_word: str | None = None) -> bool | str:
        return noun_problem(class_word) or True

    @classmethod
    def execute(
        cls, hypernetwork: Hypernetwork, model: Any, clip: Any, vae: Any, image: Tensor, class_word: str, mask: Tensor | None = None,
        clip_vision: Any = None, invert_mask: bool = False,
    ) -> io.NodeOutput:  # fmt: skip
        with outside_inference_mode():
            ref = node_reference(image, mask, invert_mask)
            weights = predict_weights(hypernetwork, model, clip, vae, ref, class_word, clip_vision)
        count = sum(tensor.numel() for tensor in weights.tensors.values())
        said = f'{count} numbers predicted from {len(ref.images)} image(s); they answer to "{weights.info.token} {weights.info.class_noun}"'
        return io.NodeOutput(weights, said)


class FinetuneWeights(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_FinetuneWeights",
            category=WEIGHTS,
            display_name="Finetune Weights (Rank-Relaxed)",
            description=(
                "Trains a LoRA beside predicted weights for some forty steps, as HyperDreamBooth does; without weights it starts from "
                "nothing. The wired MODEL and CLIP are not changed. Say what else the photo shows in the caption: it keeps prompts."
            ),
            search_aliases=["hybridbooth", "hyperdreambooth", "lora", "train", "finetune", "polish"],
            inputs=[
                *model_inputs(),
                io.Image.Input("image", tooltip=IMAGE_TOOLTIP),
                io.Mask.Input("mask", optional=True, tooltip=MASK_TOOLTIP),
                WeightsSocket.Input("start", optional=True, tooltip="From Predict Weights or Load Weights. Not connected: from nothing."),
                io.String.Input(
                    "class_word", display_name="class noun", default="", tooltip="What the subject is. Used only without start weights."
                ),
                io.Int.Input("steps", default=HyperDreamBoothConfig.steps, min=1, max=1000, tooltip="Training steps; 40 as published."),
                io.Int.Input("rank", default=HyperDreamBoothConfig.rank, min=1, max=128, tooltip="Rank of the LoRA beside the weights."),
                io.Float.Input(
                    "learning_rate", display_name="learning rate", default=0.0, min=0.0, max=1.0, step=0.000001, round=False,
                    tooltip=f"0: the default for this family of models ({HyperDreamBoothConfig.learning_rate:g} for Stable Diffusion 1.5).",
                ),
                seed_input("Seed of the training's noise and of the LoRA's start."),
                preview_input(),
                invert_input(),
                caption_input(),
            ],
            outputs=[
                WeightsSocket.Output(display_name="weights", tooltip="The start and the LoRA together, as one LoRA."),
                io.String.Output(display_name="report", tooltip="Steps and losses, for Preview as Text."),
                io.Image.Output(display_name="image", tooltip="An image drawn with them."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: Any, clip: Any, vae: Any, image: Tensor, class_word: str, steps: int, rank: int, learning_rate: float, seed: int,
        preview: bool = True, mask: Tensor | None = None, start: AdapterWeights | None = None, invert_mask: bool = False,
        caption: str = "",
    ) -> io.NodeOutput:  # fmt: skip
        how = Finetuning(steps, rank, learning_rate, seed, preview, caption)
        with outside_inference_mode():
            weights, report, drawn = finetuned(model, clip, vae, node_reference(image, mask, invert_mask), start, class_word, how)
        return io.NodeOutput(weights, report, drawn, ui=ui.PreviewImage(drawn, cls=cls))


class ApplyWeights(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_ApplyWeights",
            category=WEIGHTS,
            display_name="Apply Weights",
            description=(
                "Puts a subject's weights into MODEL and CLIP, as Load LoRA does, and lets prompts name it: 'a photo of <subject> on "
                "snow'. 'hooks' holds the same weights for Cond Set Props, so that they act in one conditioning alone; wire the plain "
                "MODEL then."
            ),
            search_aliases=["hybridbooth", "hyperdreambooth", "lora"],
            inputs=[
                io.Model.Input("model", tooltip="The model that draws."),
                io.Clip.Input("clip", tooltip="The CLIP that encodes your prompts."),
                WeightsSocket.Input("weights", tooltip="From Predict Weights, Finetune Weights or Load Weights."),
                io.String.Input("name", default="subject", tooltip=NAME_TOOLTIP),
                io.Float.Input("strength_model", default=1.0, min=-2.0, max=2.0, step=0.05, tooltip="Of the denoiser's weights."),
                io.Float.Input("strength_clip", default=1.0, min=-2.0, max=2.0, step=0.05, tooltip="Of the text encoder's weights."),
            ],
            outputs=[
                io.Model.Output(tooltip="The MODEL with the weights."),
                io.Clip.Output(tooltip="A CLIP that knows <name>, for the CLIP Text Encode of both prompts."),
                io.Hooks.Output(tooltip="The weights as hooks, for Cond Set Props."),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return name_problem(name) or True

    @classmethod
    def execute(
        cls, model: Any, clip: Any, weights: AdapterWeights, name: str, strength_model: float, strength_clip: float
    ) -> io.NodeOutput:
        return io.NodeOutput(*apply_weights(model, clip, weights, name, strength_model, strength_clip))


class SaveWeights(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_SaveWeights",
            category=WEIGHTS,
            display_name="Save Weights",
            description=(
                "Saves a subject's weights: the numbers of Lightweight DreamBooth (120 KB) to models/hybridbooth, or a LoRA that every "
                "program loads to models/loras. Finetuned weights are a LoRA always. A name that is taken is numbered."
            ),
            search_aliases=["hybridbooth", "hyperdreambooth", "save lora"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model that the weights are for; its layers decide a LoRA's sizes."),
                io.Clip.Input("clip", tooltip="The model's CLIP."),
                WeightsSocket.Input("weights", tooltip="From Predict Weights, Finetune Weights or Load Weights."),
                io.String.Input("name", default="subject", tooltip="File name without folder or ending."),
                io.Boolean.Input("as_lora", display_name="as LoRA", default=False, tooltip="On: a LoRA in models/loras, about 1.5 MB."),
            ],
            outputs=[io.String.Output(display_name="file name", tooltip="Name of the written file.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return name_problem(name) or True

    @classmethod
    def execute(cls, model: Any, clip: Any, weights: AdapterWeights, name: str, as_lora: bool) -> io.NodeOutput:
        with outside_inference_mode():
            path = save_weights(model, clip, weights, name, as_lora)
        said = f"{path.parent.name}/{path.name}, {path.stat().st_size / 1000:.1f} kB"
        return io.NodeOutput(path.name, ui={"text": [said]})


class LoadWeights(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_LoadWeights",
            category=WEIGHTS,
            display_name="Load Weights",
            description="Loads a subject's weights from models/hybridbooth. LoRAs are loaded by Load LoRA.",
            search_aliases=["hybridbooth", "hyperdreambooth", "lidb"],
            inputs=[io.Combo.Input("weights", options=weights_files(), tooltip="A file in models/hybridbooth.")],
            outputs=[WeightsSocket.Output(display_name="weights", tooltip="For Apply Weights and Finetune Weights.")],
        )

    @classmethod
    def fingerprint_inputs(cls, weights: str) -> int:
        return changed(probe_path(weights))

    @classmethod
    def execute(cls, weights: str) -> io.NodeOutput:
        with outside_inference_mode():
            return io.NodeOutput(AdapterWeights.load(probe_path(weights)))
