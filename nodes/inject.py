"""The node that puts a subject into a CLIP, so that prompts can name it."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..hybridbooth_core.files.subject import Subject
from .host.subjects import with_subject
from .schema import NAME_TOOLTIP, STEPS, ComfyNode, Schema, SubjectSocket
from .validation import name_problem


class InjectSubjectTokens(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_InjectSubjectTokens",
            category=STEPS,
            display_name="Inject Subject Tokens",
            description=(
                "Returns a CLIP whose prompts can name the subject: 'a photo of <subject> on snow', '<subject:0.8>', '(<subject>:0.8)'. "
                "Chain the node for several subjects. The input CLIP is not changed."
            ),
            search_aliases=["hybridbooth", "embedding", "inject"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP that encodes your prompts."),
                SubjectSocket.Input("subject", tooltip="A subject, for example from Refine Embedding or Load Subject."),
                io.String.Input(
                    "name",
                    default="subject",
                    tooltip=NAME_TOOLTIP,
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="0: the plain class noun, exactly as without this node. 1: the subject. Up to 2: slightly more.",
                ),
            ],
            outputs=[io.Clip.Output(tooltip="For CLIP Text Encode, or for another Inject Subject Tokens.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return name_problem(name) or True

    @classmethod
    def execute(cls, clip: Any, subject: Subject, name: str, strength: float) -> io.NodeOutput:
        return io.NodeOutput(with_subject(clip, subject, name, strength))
