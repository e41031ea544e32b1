"""A probe for the wired model, before its training."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..hybridbooth_core.bases import family_of_width
from ..hybridbooth_core.encoders.catalogue import CATALOGUE, CLIP_L
from ..hybridbooth_core.probe.probe import ProbeConfig
from ..hybridbooth_core.probe.regressors import KINDS
from ..hybridbooth_core.probe.untrained import UNTRAINED, new_probe, promptnet_sizes
from .host.session import outside_inference_mode
from .host.weights import attention_heads, base_of, denoiser_state, embedding_norm
from .schema import ABOUT_TOOLTIP, PROBE, ComfyNode, ProbeSocket, Schema, seed_input

DINOS = {entry.label: entry for entry in CATALOGUE.values() if entry is not CLIP_L}


class CreateProbe(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_CreateProbe",
            category=PROBE,
            display_name="Create Probe (untrained)",
            description=(
                "Creates an untrained probe for this model, for tests and measurements. It predicts the class noun with some noise, "
                "whatever your image shows. To personalize without a trained probe, use Probe-Free Start."
            ),
            search_aliases=["hybridbooth", "probe", "promptnet", "resampler"],
            is_experimental=True,
            inputs=[
                io.Model.Input("model", tooltip="The Stable Diffusion 1.5 model the probe is for. LoRAs on it are ignored."),
                io.Clip.Input("clip", tooltip="The model's CLIP. The predicted embeddings get the norm of its token embeddings."),
                io.Combo.Input(
                    "regressor",
                    options=list(KINDS),
                    default="promptnet",
                    tooltip="promptnet: a copy of the UNet's encoder half, 0.4 B parameters. resampler: 40 M parameters, reads no latents.",
                ),
                io.Combo.Input(
                    "dino", options=list(DINOS), default=next(iter(DINOS)), tooltip="The DINOv2 the probe reads, beside CLIP ViT-L/14."
                ),
                io.Int.Input("words", default=5, min=1, max=75, tooltip="Number of words (token embeddings) the probe predicts."),
                seed_input("Seed of the weights that are not copied from the model."),
            ],
            outputs=[
                ProbeSocket.Output(display_name="probe", tooltip="For Extract CLIP+DINO Features and Refine Embedding."),
                io.String.Output(display_name="about", tooltip=ABOUT_TOOLTIP),
            ],
        )

    @classmethod
    def execute(cls, model: Any, clip: Any, regressor: str, dino: str, words: int, seed: int) -> io.NodeOutput:
        with outside_inference_mode():
            state, (name, fingerprint, width) = denoiser_state(model, clip), base_of(model, clip)
            config = ProbeConfig(
                width=width, clip=CLIP_L.id, clip_width=CLIP_L.width, dino=DINOS[dino].id, dino_width=DINOS[dino].width, num_tokens=words,
                regressor=regressor, sizes=promptnet_sizes(state, attention_heads(model)) if regressor == "promptnet" else {},
                embedding_norm=embedding_norm(clip), family=family_of_width(width), base_model=name, base_fingerprint=fingerprint,
                trained_on=UNTRAINED,
            )  # fmt: skip
            probe = new_probe(config, state, seed).eval().requires_grad_(False)
        return io.NodeOutput(probe, probe.about())
