"""Nodes of InstantBooth: an adapter reads images of a subject, and prompts draw it without any step."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..hybridbooth_core.miniature.bundle import load_adapter
from ..hybridbooth_core.probe.instant import InstantBooth
from ..hybridbooth_core.probe.reading import Reading
from .host.folders import changed, files_of, probe_path
from .host.instant import read_references, with_reading
from .host.references import node_reference
from .host.session import outside_inference_mode
from .schema import (
    IMAGE_TOOLTIP,
    INSTANT,
    MASK_TOOLTIP,
    NAME_TOOLTIP,
    ComfyNode,
    InstantSocket,
    ReadingSocket,
    Schema,
    invert_input,
    model_inputs,
    noun_input,
)
from .validation import name_problem, noun_problem

BUILT_IN = "miniature"
FORMAT = f"hybridbooth.{InstantBooth.kind}"


class LoadInstantAdapter(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_LoadInstantAdapter",
            category=INSTANT,
            display_name="Load Instant Adapter",
            description=(
                "Loads an adapter of InstantBooth: layers that read images of a subject while the model draws. It fits one base model; "
                "'about' names it, the training data and the licence."
            ),
            search_aliases=["hybridbooth", "instantbooth", "adapter"],
            inputs=[
                io.Combo.Input(
                    "adapter",
                    options=[BUILT_IN, *files_of(FORMAT)],
                    default=BUILT_IN,
                    tooltip="'miniature' ships with this pack, for Load Miniature World. The others are files in models/hybridbooth.",
                )
            ],
            outputs=[
                InstantSocket.Output(display_name="adapter", tooltip="For Read References."),
                io.String.Output(display_name="about", tooltip="Its base model, training data, licence and encoders, for Preview as Text."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter: str) -> int:
        return 0 if adapter == BUILT_IN else changed(probe_path(adapter))

    @classmethod
    def execute(cls, adapter: str) -> io.NodeOutput:
        with outside_inference_mode():
            loaded = load_adapter() if adapter == BUILT_IN else InstantBooth.load(probe_path(adapter))
        return io.NodeOutput(loaded, loaded.about())


class ReadReferences(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_ReadReferences",
            category=INSTANT,
            display_name="Read References",
            description="Lets an InstantBooth adapter read one or more images of a subject. There is no training step.",
            search_aliases=["hybridbooth", "instantbooth", "reference image"],
            inputs=[
                InstantSocket.Input("adapter", tooltip="From Load Instant Adapter."),
                *model_inputs(),
                io.Image.Input("image", tooltip=IMAGE_TOOLTIP),
                io.Mask.Input("mask", optional=True, tooltip=MASK_TOOLTIP),
                noun_input(),
                io.ClipVision.Input(
                    "clip_vision", optional=True, tooltip="CLIP ViT-L/14 from Load CLIP Vision. If not connected, a file is used."
                ),
                invert_input(),
            ],
            outputs=[ReadingSocket.Output(display_name="reading", tooltip="For Apply Instant Subject.")],
        )

    @classmethod
    def validate_inputs(cls, class_word: str | None = None) -> bool | str:
        return noun_problem(class_word) or True

    @classmethod
    def execute(
        cls, adapter: InstantBooth, model: Any, clip: Any, vae: Any, image: Tensor, class_word: str, mask: Tensor | None = None,
        clip_vision: Any = None, invert_mask: bool = False,
    ) -> io.NodeOutput:  # fmt: skip
        with outside_inference_mode():
            ref = node_reference(image, mask, invert_mask)
            return io.NodeOutput(read_references(adapter, model, clip, vae, ref, class_word, clip_vision))


class ApplyInstantSubject(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_ApplyInstantSubject",
            category=INSTANT,
            display_name="Apply Instant Subject",
            description=(
                "Returns a CLIP whose prompts can name what was read: 'a photo of <subject> on snow'. The conditionings that it encodes "
                "carry the adapter, so masks, areas, timestep ranges, ControlNet and every sampler work as usual, with the plain MODEL. "
                "Prompts without the name are not touched. Chain the node for several subjects."
            ),
            search_aliases=["hybridbooth", "instantbooth"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP that encodes your prompts."),
                ReadingSocket.Input("reading", tooltip="From Read References."),
                io.String.Input("name", default="subject", tooltip=NAME_TOOLTIP),
                io.Float.Input(
                    "alpha", default=-1.0, min=-1.0, max=2.0, step=0.05,
                    tooltip="Of the concept token; (<subject>:0.4) in a prompt weights it too. -1: the adapter's own.",
                ),
                io.Float.Input(
                    "beta", default=-1.0, min=-1.0, max=2.0, step=0.05, tooltip="Of the adapter layers: likeness. -1: the adapter's own."
                ),
            ],
            outputs=[io.Clip.Output(tooltip="For CLIP Text Encode, or for another Apply Instant Subject.")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return name_problem(name) or True

    @classmethod
    def execute(cls, clip: Any, reading: Reading, name: str, alpha: float, beta: float) -> io.NodeOutput:
        own = reading.adapter.config if reading.adapter is not None else None
        alpha, beta = (getattr(own, key, 1.0) if value < 0 else value for key, value in (("alpha", alpha), ("beta", beta)))
        with outside_inference_mode():
            return io.NodeOutput(with_reading(clip, reading, name, alpha, beta))
