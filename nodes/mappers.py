"""The node for published mappers: networks of other authors that map an image to token embeddings."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..hybridbooth_core.mappers.files import FORMAT, load, summary
from ..hybridbooth_core.mappers.predict import mapper_subject
from .host.folders import changed, files_of, mapper_path
from .host.references import node_reference
from .host.text_model import host_text
from .host.vision import host_clip_vision
from .schema import IMAGE_TOOLTIP, MASK_TOOLTIP, STEPS, ComfyNode, Schema, SubjectSocket, invert_input


class MapperWords(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_MapperWords",
            category=STEPS,
            display_name="Initial Words (Published Mapper)",
            description=(
                "Initial embeddings from a published encoder (ELITE, Pic2Word, SEARLE, LinCIR) for Stable Diffusion 1.5. Convert its file "
                "once with 'hybridbooth convert-mapper'; follow with Refine Subject. Its licence is shown in 'info'."
            ),
            search_aliases=["hybridbooth", "elite", "pic2word", "searle", "lincir", "textual inversion"],
            inputs=[
                io.Combo.Input(
                    "mapper", options=files_of(FORMAT), tooltip="A file in models/hybridbooth, written by 'hybridbooth convert-mapper'."
                ),
                io.Clip.Input("clip", tooltip="The CLIP of the Stable Diffusion 1.5 model you will generate with."),
                io.Image.Input("image", tooltip=IMAGE_TOOLTIP),
                io.Mask.Input("mask", optional=True, tooltip=MASK_TOOLTIP),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP ViT-L/14 from Load CLIP Vision. If not connected, a file is used: see Download Encoders.",
                ),
                io.String.Input(
                    "class_word",
                    display_name="class noun",
                    default="",
                    tooltip="Optional: what the subject is, in one noun. Added after the word of mappers that predict only one.",
                ),
                invert_input(),
            ],
            outputs=[
                SubjectSocket.Output(display_name="subject", tooltip="The initial words, for Refine Subject or Inject Subject Tokens."),
                io.String.Output(display_name="info", tooltip="The mapper's source and licence, for Preview as Text."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, mapper: str, **others: Any) -> int:
        return changed(mapper_path(mapper))

    @classmethod
    def execute(
        cls,
        mapper: str,
        clip: Any,
        image: Tensor,
        class_word: str,
        mask: Tensor | None = None,
        clip_vision: Any = None,
        invert_mask: bool = False,
    ) -> io.NodeOutput:
        with host_text(clip) as host:
            network = load(mapper_path(mapper))
            vision = host_clip_vision(clip_vision, projection=network.needs_noun)
            subject = mapper_subject(network, vision, host, node_reference(image, mask, invert_mask), class_word)
        return io.NodeOutput(subject, summary(network))
