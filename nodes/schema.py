"""Shared by all node files: the pack's sockets, recurring texts, and schemas that older hosts accept."""
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

ProbeSocket = io.Custom("HB_PROBE")
FeaturesSocket = io.Custom("HB_FEATURES")
SubjectSocket = io.Custom("HB_SUBJECT")

IMAGE_TOOLTIP = "One image of the subject, or a batch of images of the same subject."
MASK_TOOLTIP = "1 on the subject, 0 on the background; same size as the image. Without a mask the background is learned as well."
NOISE_SEED_TOOLTIP = "Seed of the noise used by the steps."
ABOUT_TOOLTIP = "The probe's base model, training data, licence and encoders, for Preview as Text."


def schema(name: str, **keywords: Any) -> io.Schema:
    """The schema of node `HybridBooth_<name>`, without the keywords that this host's version does not have."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    kept = {key: value for key, value in keywords.items() if key in known}
    return io.Schema(node_id=f"HybridBooth_{name}", category="HybridBooth", **kept)


def model_inputs() -> list[Any]:
    """The inputs for the model that refining runs through."""
    return [
        io.Model.Input("model", tooltip="A Stable Diffusion 1.5 model, or the miniature's. LoRAs on it are applied."),
        io.Clip.Input("clip", tooltip="The model's CLIP. Clip skip and LoRAs on it are applied."),
        io.Vae.Input("vae", tooltip="The model's VAE."),
    ]


def seed_input(tooltip: str) -> Any:
    """A seed that does not change between runs."""
    return io.Int.Input("seed", default=0, min=0, max=2**53, control_after_generate=False, tooltip=tooltip)


def refined_outputs() -> list[Any]:
    """The outputs of every refining node."""
    return [
        SubjectSocket.Output(display_name="subject", tooltip="The refined words, for Inject Subject Tokens and Save Subject."),
        io.String.Output(display_name="report", tooltip="Losses, the step that was kept and memory, for Preview as Text."),
        io.Image.Output(
            display_name="subject report", tooltip="The images, where the words attend, and the loss curve, for Preview Image."
        ),
    ]
