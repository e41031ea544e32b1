"""Nodes that use a subject: in prompts, saved to a file, loaded from a file."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..hybridbooth_core.files.subject import Subject
from .host.folders import changed, new_subject_path, subject_files, subject_path
from .host.session import outside_inference_mode
from .host.subjects import with_subject
from .schema import SubjectSocket, schema


class InjectSubjectTokens(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InjectSubjectTokens",
            display_name="Inject Subject Tokens",
            description=(
                "Returns a CLIP whose prompts can name the subject: 'a photo of <subject> on snow', '(<subject>:0.8)'. "
                "Chain the node for several subjects. The input CLIP is not changed."
            ),
            search_aliases=["hybridbooth", "embedding", "inject"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP that encodes your prompts."),
                SubjectSocket.Input("subject", tooltip="A subject, for example from Refine Embedding or Load Subject."),
                io.String.Input(
                    "name", default="subject", tooltip="The subject's name in prompts, without the brackets: subject for <subject>."
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="0: the plain class noun, exactly as without this node. 1: the subject. Above 1: exaggerated.",
                ),
            ],
            outputs=[io.Clip.Output(tooltip="For CLIP Text Encode, or for another Inject Subject Tokens.")],
        )

    @classmethod
    def execute(cls, clip: Any, subject: Subject, name: str, strength: float) -> io.NodeOutput:
        return io.NodeOutput(with_subject(clip, subject, name, strength))


class SaveSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "SaveSubject",
            display_name="Save Subject",
            description="Saves the subject to models/embeddings. Any prompt can use it as embedding:name, even without this pack.",
            search_aliases=["hybridbooth", "save embedding", "textual inversion"],
            is_output_node=True,
            inputs=[
                SubjectSocket.Input("subject", tooltip="The subject to save."),
                io.String.Input("name", default="subject", tooltip="File name without folder or extension: letters, digits, - and _."),
                io.Boolean.Input("overwrite", default=False, tooltip="On: replaces a file of the same name. Off: stops with an error."),
            ],
            outputs=[io.String.Output(display_name="file name", tooltip="Name of the written file.")],
        )

    @classmethod
    def execute(cls, subject: Subject, name: str, overwrite: bool) -> io.NodeOutput:
        path = new_subject_path(name)
        subject.save(path, overwrite=overwrite)
        return io.NodeOutput(path.name)


class LoadSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadSubject",
            display_name="Load Subject",
            description="Loads a subject from models/embeddings. Embeddings from other trainers work if they hold one emb_params tensor.",
            search_aliases=["hybridbooth", "load embedding"],
            inputs=[io.Combo.Input("subject", options=subject_files(), tooltip="A file in models/embeddings.")],
            outputs=[SubjectSocket.Output(display_name="subject", tooltip="For Inject Subject Tokens and Refine Subject.")],
        )

    @classmethod
    def fingerprint_inputs(cls, subject: str) -> int:
        return changed(subject_path(subject))

    @classmethod
    def execute(cls, subject: str) -> io.NodeOutput:
        with outside_inference_mode():
            return io.NodeOutput(Subject.load(subject_path(subject)))
