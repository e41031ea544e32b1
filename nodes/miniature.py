"""Nodes of the miniature world: a model that needs no download, and test images for it."""
# pyright: reportMissingImports=false

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..hybridbooth_core.miniature import world
from ..hybridbooth_core.miniature.bundle import load_probe
from ..hybridbooth_core.miniature.render import render
from ..hybridbooth_core.miniature.world_model import LATENT_SHAPE
from .host.miniature import load_miniature_world
from .host.session import outside_inference_mode
from .schema import MINIATURE, ComfyNode, ProbeSocket, Schema


class LoadMiniatureWorld(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_LoadMiniatureWorld",
            category=MINIATURE,
            display_name="Load Miniature World",
            description=(
                "A complete 64x64 text-to-image model that ships with this pack and draws small creatures in simple scenes. "
                "Use it with stock nodes: KSampler at 15 steps and cfg 3, VAE Decode."
            ),
            search_aliases=["hybridbooth", "miniature", "demo model"],
            inputs=[],
            outputs=[
                io.Model.Output(tooltip="The miniature's UNet, for KSampler and Refine Embedding."),
                io.Clip.Output(tooltip="The miniature's text encoder. It knows only the words listed on the help page."),
                io.Vae.Output(tooltip="The miniature's VAE."),
                ProbeSocket.Output(display_name="probe", tooltip="The miniature's probe, as Load Probe gives it."),
                io.Latent.Output(display_name="empty latent", tooltip="An empty latent of one 64x64 image, for KSampler."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        with outside_inference_mode():
            probe = load_probe()
        return io.NodeOutput(*load_miniature_world(), probe, {"samples": torch.zeros(1, *LATENT_SHAPE)})


class MiniatureCreature(ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="HybridBooth_MiniatureCreature",
            category=MINIATURE,
            display_name="Miniature Creature",
            description="Draws a creature that the miniature was not trained on, with its exact mask. Use it in place of a photo.",
            search_aliases=["hybridbooth", "miniature", "test image"],
            inputs=[
                io.Int.Input("number", default=0, min=0, max=len(world.SPLITS["test"]) - 1, tooltip="Which creature to draw."),
                io.Combo.Input("background", options=list(world.BACKGROUNDS), default="grass", tooltip="Background of the scene."),
                io.Combo.Input("place", options=list(world.PLACES), default="middle", tooltip="Position of the creature in the image."),
                io.Combo.Input("size", options=list(world.SIZES), default="big", tooltip="Size of the creature in the image."),
                io.Combo.Input("accessory", options=list(world.ACCESSORIES), default="none", tooltip="What the creature wears."),
                io.Combo.Input("style", options=list(world.STYLES), default="photo", tooltip="Style of the whole image."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The image, 64x64."),
                io.Mask.Output(display_name="mask", tooltip="1 on the creature, 0 elsewhere."),
                io.String.Output(display_name="class noun", tooltip="Its class noun: cat, rabbit, robot or fish."),
            ],
        )

    @classmethod
    def execute(cls, number: int, background: str, place: str, size: str, accessory: str, style: str) -> io.NodeOutput:
        who = world.creatures(world.split_numbers("test", 1, number))
        image, mask = render(who, world.scene(background, place, size, accessory, style))
        return io.NodeOutput(image, mask, world.KINDS[int(who.kind)])
