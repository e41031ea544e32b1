"""Nodes for subjects as files: saved and loaded."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import io

from ..hybridbooth_core.files.subject import Subject
from .host.folders import changed, new_subject_path, subject_files, subject_path
from .host.session import outside_inference_mode
from .schema import FIRST, ComfyNode, Schema, SubjectSocket


class SaveSubject(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_SaveSubject",
            category=FIRST,
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


class LoadSubject(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_LoadSubject",
            category=FIRST,
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
