"""Nodes for subjects as files: saved and loaded."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import io, ui
from torch import Tensor

from ..hybridbooth_core.errors import UserError
from ..hybridbooth_core.files.subject import Subject
from .errors import without_folders
from .host.folders import changed, root_folders, subject_files, subject_path
from .host.saving import save_subject
from .host.session import outside_inference_mode
from .schema import FIRST, ComfyNode, Schema, SubjectSocket
from .validation import name_problem


class SaveSubject(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_SaveSubject",
            category=FIRST,
            display_name="Save Subject",
            description=(
                "Saves the subject to models/embeddings, about 15 KB. Any prompt can use it as embedding:name, even without this pack, if "
                "the name has no spaces."
            ),
            search_aliases=["hybridbooth", "save embedding", "textual inversion"],
            is_output_node=True,
            inputs=[
                SubjectSocket.Input("subject", tooltip="The subject to save."),
                io.String.Input(
                    "name", default="subject", tooltip="File name without folder or ending, and the subject's name: any script, spaces too."
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="On: replaces a file of the same name. Off: a new subject is numbered, as in name-2.",
                ),
                io.Image.Input(
                    "preview",
                    optional=True,
                    tooltip="A thumbnail to lie beside the file as name.png, such as a generated image. The file itself holds no pixels.",
                ),
            ],
            outputs=[io.String.Output(display_name="file name", tooltip="Name of the written file.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return name_problem(name) or True

    @classmethod
    def execute(cls, subject: Subject, name: str, overwrite: bool, preview: Tensor | None = None) -> io.NodeOutput:
        saved = save_subject(subject, name, overwrite, preview)
        shown = {} if preview is None else ui.PreviewImage(preview[:1], cls=cls).as_dict()
        return io.NodeOutput(saved.path.name, ui={**shown, "text": [saved.said], "hybridbooth_files": [saved.download]})


class LoadSubject(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_LoadSubject",
            category=FIRST,
            display_name="Load Subject",
            description="Loads a subject from models/embeddings. Embeddings from other trainers work if they hold one emb_params tensor.",
            search_aliases=["hybridbooth", "load embedding", "character", "textual inversion"],
            inputs=[
                io.Combo.Input(
                    "subject", options=subject_files(), tooltip="A file in models/embeddings, or an uploaded one. Below: what it is for."
                )
            ],
            outputs=[SubjectSocket.Output(display_name="subject", tooltip="For Inject Subject Tokens and Refine Subject.")],
        )

    @classmethod
    def fingerprint_inputs(cls, subject: str) -> int:
        return changed(subject_path(subject))

    @classmethod
    def validate_inputs(cls, subject: str | None = None) -> bool | str:
        try:
            return subject is None or bool(Subject.load(subject_path(subject)))
        except UserError as error:
            return without_folders(str(error), root_folders())

    @classmethod
    def execute(cls, subject: str) -> io.NodeOutput:
        with outside_inference_mode():
            return io.NodeOutput(Subject.load(subject_path(subject)))
