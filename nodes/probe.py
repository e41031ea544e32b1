"""Nodes that look at an image: the probe, and the features it reads."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..hybridbooth_core.encoders.features import extract_features, reference
from ..hybridbooth_core.miniature.bundle import load_probe
from ..hybridbooth_core.probe.probe import FORMAT, Probe
from .host.folders import changed, files_of, probe_path
from .host.model import HostVae
from .host.session import outside_inference_mode
from .host.vision import host_encoders
from .schema import FeaturesSocket, ProbeSocket, schema

BUILT_IN = "miniature"


class LoadProbe(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadProbe",
            display_name="Load Probe",
            description=(
                "A probe looks at an image once and guesses the words of its subject. It belongs to one family of models; 'about' says to "
                "which, what it was trained on and under which licence."
            ),
            search_aliases=["hybridbooth", "probe", "personalize"],
            inputs=[
                io.Combo.Input(
                    "probe",
                    options=[BUILT_IN, *files_of(FORMAT)],
                    default=BUILT_IN,
                    tooltip="'miniature' comes with this pack, for Load Miniature World. The others are files in models/hybridbooth.",
                )
            ],
            outputs=[ProbeSocket.Output(display_name="probe"), io.String.Output(display_name="about")],
        )

    @classmethod
    def fingerprint_inputs(cls, probe: str) -> int:
        return 0 if probe == BUILT_IN else changed(probe_path(probe))

    @classmethod
    def execute(cls, probe: str) -> io.NodeOutput:
        with outside_inference_mode():
            loaded = load_probe() if probe == BUILT_IN else Probe.load(probe_path(probe))
        return io.NodeOutput(loaded, loaded.about())


class ExtractFeatures(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ExtractFeatures",
            display_name="Extract CLIP+DINO Features",
            description=(
                "Reads the subject's image with the two encoders that the probe was trained with. Several images of one subject may "
                "come as a batch."
            ),
            search_aliases=["hybridbooth", "features", "reference image"],
            inputs=[
                ProbeSocket.Input("probe", tooltip="The probe that will read the features; it says which encoders to use."),
                io.Vae.Input("vae", tooltip="The VAE of the model that the words are for."),
                io.Image.Input("image", tooltip="One image of the subject, or a batch of images of the same subject."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="1 on the subject, 0 on the background, of the image's size. Without it the background is learnt as well.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP ViT-L/14 from the stock Load CLIP Vision, for probes of Stable Diffusion 1.5. Without it a file is used.",
                ),
            ],
            outputs=[FeaturesSocket.Output(display_name="features")],
        )

    @classmethod
    def execute(cls, probe: Probe, vae: Any, image: Tensor, mask: Tensor | None = None, clip_vision: Any = None) -> io.NodeOutput:
        with outside_inference_mode():
            ref = reference(image, mask)
            features = extract_features(HostVae(vae), *host_encoders(probe.config, clip_vision), ref)
        return io.NodeOutput((ref, features))
