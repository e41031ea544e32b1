"""The node for public word mappers: networks that others trained to put an image into words."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..hybridbooth_core.encoders.features import reference
from ..hybridbooth_core.mappers.files import FORMAT, load, summary
from ..hybridbooth_core.mappers.words import mapper_subject
from .host.folders import changed, files_of, mapper_path
from .host.vision import host_clip_vision
from .host.words import host_text
from .schema import SubjectSocket, schema


class MapperWords(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MapperWords",
            display_name="Guess Words (Public Mapper)",
            description=(
                "First words of a subject by a network that others published: ELITE, Pic2Word, SEARLE or LinCIR, for Stable Diffusion 1.5. "
                "Make its file once with 'hybridbooth convert-mapper'. Refine Subject brings the words closer. Mind the licence in 'info'."
            ),
            search_aliases=["hybridbooth", "elite", "pic2word", "searle", "lincir", "textual inversion"],
            inputs=[
                io.Combo.Input("mapper", options=files_of(FORMAT), tooltip="A file in models/hybridbooth that convert-mapper wrote."),
                io.Clip.Input("clip", tooltip="The CLIP of the Stable Diffusion 1.5 model that the words are for."),
                io.Image.Input("image", tooltip="One image of the subject, or a batch of images of the same subject."),
                io.Mask.Input("mask", optional=True, tooltip="1 on the subject, 0 on the background, of the image's size."),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP ViT-L/14 from the stock Load CLIP Vision. Without it a file is used: see Download Encoders.",
                ),
                io.String.Input(
                    "class_word",
                    default="",
                    tooltip="What kind of thing the subject is. It follows a single word; ELITE's five stand alone.",
                ),
            ],
            outputs=[SubjectSocket.Output(display_name="subject"), io.String.Output(display_name="info")],
        )

    @classmethod
    def fingerprint_inputs(cls, mapper: str, **others: Any) -> int:
        return changed(mapper_path(mapper))

    @classmethod
    def execute(
        cls, mapper: str, clip: Any, image: Tensor, class_word: str, mask: Tensor | None = None, clip_vision: Any = None
    ) -> io.NodeOutput:
        with host_text(clip) as host:
            network = load(mapper_path(mapper))
            vision = host_clip_vision(clip_vision, projection=network.needs_noun)
            subject = mapper_subject(network, vision, host, reference(image, mask), class_word)
        return io.NodeOutput(subject, summary(network))
