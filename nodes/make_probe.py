"""A probe for everyone, from nothing but the wired checkpoint."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..hybridbooth_core.encoders.published import DINO_SIZES
from ..hybridbooth_core.training.own_probe import SUBJECTS
from .host.own_probe import Order, own_probe
from .host.session import outside_inference_mode
from .schema import ABOUT_TOOLTIP, TRAINING, ComfyNode, ProbeSocket, Schema, model_inputs, seed_input
from .validation import name_problem


class MakeProbe(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_MakeProbe",
            category=TRAINING,
            display_name="Make Probe From Checkpoint",
            description=(
                "Makes a probe for your checkpoint, without photos: the model draws subjects in two scenes "
                "each, and the probe is trained on them. One queue entry that takes hours; stop it whenever you like, and "
                "queue it again to go on. If the file is there already, it is loaded."
            ),
            search_aliases=["hybridbooth", "probe", "train", "checkpoint", "own probe", "distill"],
            is_output_node=True,
            inputs=[
                *model_inputs(),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP ViT-L/14 from Load CLIP Vision. If not connected, a file is used (Download Encoders).",
                ),
                io.String.Input("name", default="my_probe", tooltip="The file in models/hybridbooth, for Load Probe."),
                io.Int.Input(
                    "subjects",
                    default=SUBJECTS,
                    min=8,
                    max=1000000,
                    tooltip="Subjects to draw, in two scenes each. Their images take about 1.2 MB each while the probe is trained.",
                ),
                io.Int.Input(
                    "steps", default=0, min=0, max=1000000, tooltip="Training steps. 0: those of the preset for this family of models."
                ),
                io.Combo.Input(
                    "dino",
                    options=list(DINO_SIZES),
                    default="L",
                    tooltip="Size of the DINOv2 that the probe reads (Download Encoders has L). The miniature has its own.",
                ),
                seed_input("Seed of the drawings and of the training."),
            ],
            outputs=[
                ProbeSocket.Output(
                    display_name="probe", tooltip="For Personalize Subject, Extract CLIP+DINO Features and Refine Embedding."
                ),
                io.String.Output(display_name="about", tooltip=ABOUT_TOOLTIP),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return name_problem(name) or True

    @classmethod
    def execute(
        cls, model: Any, clip: Any, vae: Any, name: str, subjects: int, steps: int, dino: str, seed: int, clip_vision: Any = None
    ) -> io.NodeOutput:
        with outside_inference_mode():
            probe, said = own_probe(model, clip, vae, clip_vision, Order(name, subjects, steps, dino, seed))
        return io.NodeOutput(probe, f"{said}\n{probe.about()}")
