"""Nodes for probes and for the image features they read."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..hybridbooth_core.encoders.features import extract_features
from ..hybridbooth_core.miniature.bundle import load_probe
from ..hybridbooth_core.probe.probe import FORMAT, Probe
from .host.folders import changed, files_of, probe_path
from .host.model import HostVae
from .host.references import node_reference
from .host.session import outside_inference_mode
from .host.vision import host_encoders
from .schema import ABOUT_TOOLTIP, IMAGE_TOOLTIP, MASK_TOOLTIP, PROBE, ComfyNode, FeaturesSocket, ProbeSocket, Schema, invert_input

BUILT_IN = "miniature"


class LoadProbe(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_LoadProbe",
            category=PROBE,
            display_name="Load Probe",
            description=(
                "Loads a probe: a network that predicts the words of a subject from one look at an image. A probe fits one base model; "
                "'about' names it, the training data and the licence."
            ),
            search_aliases=["hybridbooth", "probe", "personalize"],
            inputs=[
                io.Combo.Input(
                    "probe",
                    options=[BUILT_IN, *files_of(FORMAT)],
                    default=BUILT_IN,
                    tooltip="'miniature' ships with this pack, for Load Miniature World. The others are files in models/hybridbooth.",
                )
            ],
            outputs=[
                ProbeSocket.Output(display_name="probe", tooltip="For Extract CLIP+DINO Features and Refine Embedding."),
                io.String.Output(display_name="about", tooltip=ABOUT_TOOLTIP),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, probe: str) -> int:
        return 0 if probe == BUILT_IN else changed(probe_path(probe))

    @classmethod
    def execute(cls, probe: str) -> io.NodeOutput:
        with outside_inference_mode():
            loaded = load_probe() if probe == BUILT_IN else Probe.load(probe_path(probe))
        return io.NodeOutput(loaded, loaded.about())


class ExtractFeatures(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_ExtractFeatures",
            category=PROBE,
            display_name="Extract CLIP+DINO Features",
            description=(
                "Encodes an image of the subject with the probe's CLIP, DINOv2 and the VAE. Several images of one subject can be "
                "passed as a batch."
            ),
            search_aliases=["hybridbooth", "features", "reference image"],
            inputs=[
                ProbeSocket.Input("probe", tooltip="The probe that will read the features. It decides which encoders are used."),
                io.Vae.Input("vae", tooltip="The VAE of the model you will generate with."),
                io.Image.Input("image", tooltip=IMAGE_TOOLTIP),
                io.Mask.Input("mask", optional=True, tooltip=MASK_TOOLTIP),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP ViT-L/14 from Load CLIP Vision, for Stable Diffusion 1.5 probes. If not connected, a file is used.",
                ),
                invert_input(),
            ],
            outputs=[FeaturesSocket.Output(display_name="features", tooltip="For Refine Embedding with the same probe.")],
        )

    @classmethod
    def execute(
        cls, probe: Probe, vae: Any, image: Tensor, mask: Tensor | None = None, clip_vision: Any = None, invert_mask: bool = False
    ) -> io.NodeOutput:
        with outside_inference_mode():
            ref = node_reference(image, mask, invert_mask)
            features = extract_features(HostVae(vae), *host_encoders(probe.config, clip_vision), ref)
        return io.NodeOutput((ref, features))
