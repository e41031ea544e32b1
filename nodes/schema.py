"""What all node files share: the sockets of the pack, and schemas that older hosts take too."""
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

ProbeSocket = io.Custom("HB_PROBE")
FeaturesSocket = io.Custom("HB_FEATURES")
SubjectSocket = io.Custom("HB_SUBJECT")


def schema(name: str, **keywords: Any) -> io.Schema:
    """The schema of node `HybridBooth_<name>`, without the keywords that this host's version does not have."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    kept = {key: value for key, value in keywords.items() if key in known}
    return io.Schema(node_id=f"HybridBooth_{name}", category="HybridBooth", **kept)


def model_inputs() -> list[Any]:
    """What a refinement computes with."""
    return [
        io.Model.Input("model", tooltip="A Stable Diffusion 1.5 model, or the miniature world's. LoRAs on it count."),
        io.Clip.Input("clip", tooltip="The CLIP that belongs to the model. Clip skip and LoRAs on it count."),
        io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
    ]


def seed_input(tooltip: str) -> Any:
    """A seed that stays as it is from run to run."""
    return io.Int.Input("seed", default=0, min=0, max=2**53, control_after_generate=False, tooltip=tooltip)


def refined_outputs() -> list[Any]:
    """What every refining node gives."""
    return [
        SubjectSocket.Output(display_name="subject"),
        io.String.Output(display_name="report"),
        io.Image.Output(display_name="subject report"),
    ]
