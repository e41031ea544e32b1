"""A probe for the wired model, before its training."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..hybridbooth_core.encoders.catalogue import CATALOGUE, CLIP_L
from ..hybridbooth_core.probe.probe import ProbeConfig
from ..hybridbooth_core.probe.regressors import KINDS
from ..hybridbooth_core.probe.untrained import UNTRAINED, new_probe, promptnet_sizes
from .host.session import outside_inference_mode
from .host.weights import attention_heads, base_of, denoiser_state, embedding_norm
from .schema import ProbeSocket, schema, seed_input

DINOS = {entry.label: entry for entry in CATALOGUE.values() if entry is not CLIP_L}


class CreateProbe(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "CreateProbe",
            display_name="Create Probe (untrained)",
            description=(
                "A new probe for this model; a promptnet starts from the model's own encoder half. It is not trained: its guess knows the "
                "class noun and nothing of your image. For tests and measurements; without a trained probe use Probe-Free Start."
            ),
            search_aliases=["hybridbooth", "probe", "promptnet", "resampler"],
            is_experimental=True,
            inputs=[
                io.Model.Input("model", tooltip="The Stable Diffusion 1.5 model that the probe is for. LoRAs on it do not count."),
                io.Clip.Input("clip", tooltip="The CLIP that belongs to the model: the probe's words get the length of its words."),
                io.Combo.Input(
                    "regressor",
                    options=list(KINDS),
                    default="promptnet",
                    tooltip="promptnet: a copy of the model's encoder half, 0.4 B parameters. resampler: 40 M, sees no latents.",
                ),
                io.Combo.Input(
                    "dino", options=list(DINOS), default=next(iter(DINOS)), tooltip="The DINOv2 that it reads with, beside CLIP."
                ),
                io.Int.Input("words", default=5, min=1, max=75, tooltip="How many words it guesses."),
                seed_input("Of its random weights."),
            ],
            outputs=[ProbeSocket.Output(display_name="probe"), io.String.Output(display_name="about")],
        )

    @classmethod
    def execute(cls, model: Any, clip: Any, regressor: str, dino: str, words: int, seed: int) -> io.NodeOutput:
        with outside_inference_mode():
            state, (name, fingerprint, width) = denoiser_state(model, clip), base_of(model, clip)
            config = ProbeConfig(
                width=width, clip=CLIP_L.id, clip_width=CLIP_L.width, dino=DINOS[dino].id, dino_width=DINOS[dino].width, num_tokens=words,
                regressor=regressor, sizes=promptnet_sizes(state, attention_heads(model)) if regressor == "promptnet" else {},
                embedding_norm=embedding_norm(clip), base_model=name, base_fingerprint=fingerprint, trained_on=UNTRAINED,
            )  # fmt: skip
            probe = new_probe(config, state, seed).eval().requires_grad_(False)
        return io.NodeOutput(probe, probe.about())
