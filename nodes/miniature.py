"""Nodes of the miniature world: a model that needs no download, and images of creatures to try it on."""
# pyright: reportMissingImports=false

from __future__ import annotations

from comfy_api.latest import io

from ..hybridbooth_core.miniature import world
from ..hybridbooth_core.miniature.render import render
from .host.miniature import load_miniature_world
from .schema import schema


class LoadMiniatureWorld(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "LoadMiniatureWorld",
            display_name="Load Miniature World",
            description=(
                "A complete text-to-image model small enough to come with this pack: little creatures in scenes, 64 pixels a side. "
                "It works with stock nodes: Empty Latent Image at 64x64, KSampler at 15 steps and cfg 3, VAE Decode."
            ),
            search_aliases=["hybridbooth", "miniature", "demo model"],
            inputs=[],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_miniature_world())


class MiniatureCreature(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MiniatureCreature",
            display_name="Miniature Creature",
            description="Draws one of the creatures that the miniature world has never seen, with its exact mask: a subject to try.",
            search_aliases=["hybridbooth", "miniature", "test image"],
            inputs=[
                io.Int.Input("number", default=0, min=0, max=len(world.SPLITS["test"]) - 1, tooltip="Which creature; each number is one."),
                io.Combo.Input(
                    "background", options=list(world.BACKGROUNDS), default="grass", tooltip="What the creature stands on or before."
                ),
                io.Combo.Input("place", options=list(world.PLACES), default="middle", tooltip="Where in the image it is."),
                io.Combo.Input("size", options=list(world.SIZES), default="big", tooltip="How much of the image it fills."),
                io.Combo.Input("accessory", options=list(world.ACCESSORIES), default="none", tooltip="What it wears."),
                io.Combo.Input("style", options=list(world.STYLES), default="photo", tooltip="The look of the whole image."),
            ],
            outputs=[
                io.Image.Output(display_name="image"),
                io.Mask.Output(display_name="mask"),
                io.String.Output(display_name="class_word"),
            ],
        )

    @classmethod
    def execute(cls, number: int, background: str, place: str, size: str, accessory: str, style: str) -> io.NodeOutput:
        who = world.creatures(world.split_numbers("test", 1, number))
        image, mask = render(who, world.scene(background, place, size, accessory, style))
        return io.NodeOutput(image, mask, world.KINDS[int(who.kind)])
