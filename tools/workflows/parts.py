"""What several workflows have in common: the note, the loaders, the prompts, the sampler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .canvas import Canvas, Column, Node, Slot

BLUE, GREEN, BROWN, PURPLE, TEAL, RED = "#3f789e", "#3f7a4a", "#8a5a2b", "#6a3f8a", "#2f7f7f", "#7a3f4f"
NEGATIVE = "blurry, lowres, deformed, text, watermark"
PROMPT = "a photo of <subject> on a beach at sunset, highly detailed"
TOP = -114  # of the rails

MODEL_FILE = "*Load Checkpoint*: any Stable Diffusion 1.5 model, in `models/checkpoints`."
PHOTO = "*Load Image*: a photo of your subject."
MASK = (
    "A mask helps: right-click *Load Image*, choose *Open in Mask Editor* and paint over the subject. Without one, the background is "
    "learned as well."
)
NOUN = "*class noun*: what the subject is, in one noun: *dog, backpack, teapot*."


def readme(canvas: Canvas, title: str, *paragraphs: str, tall: float, x: float = -440, width: float = 380) -> Node:
    """The note on the far left."""
    return canvas.column(x, width).note("\n\n".join([f"## {title}", *paragraphs]), tall, "Read me")


def choose(*lines: str) -> str:
    return "### You choose\n" + "\n".join(f"- {line}" for line in lines)


@dataclass
class Loaded:
    """The outputs of a checkpoint."""

    model: Slot
    clip: Slot
    vae: Slot


def checkpoint(column: Column) -> Loaded:
    node = column.put("CheckpointLoaderSimple")
    return Loaded(node["MODEL"], node["CLIP"], node["VAE"])


def railed(slot: Slot, start: float, end: float, lane: int) -> Slot:
    """The slot on a rail above all groups, from x = start to x = end; lane 0 is the lowest."""
    height = TOP - 20 * lane
    return slot.via((start, height), (end, height))


def personalized(column: Column, loaded: Loaded, image: Slot, title: str = "", noun: str = "dog", **inputs: Any) -> Node:
    """Personalize Subject on these images."""
    wired = {"model": loaded.model, "clip": loaded.clip, "vae": loaded.vae, "image": image}
    return column.put("HybridBooth_PersonalizeSubject", title, class_word=noun, **wired, **inputs)


def prompts(column: Column, clip: Slot, prompt: str = PROMPT) -> tuple[Slot, Slot]:
    """Both prompts, read by the CLIP that knows the subject."""
    positive = column.put("CLIPTextEncode", "Prompt", 130, clip=clip, text=prompt)
    negative = column.put("CLIPTextEncode", "Negative prompt", 110, clip=clip, text=NEGATIVE)
    return positive["CONDITIONING"], negative["CONDITIONING"]


def sampled(canvas: Canvas, column: Column, loaded: Loaded, start: float, positive: Slot, negative: Slot, prefix: str) -> Column:
    """Adds the sampler to `column` and the saved image in a column beside it, which it returns; rails of model and VAE begin at `start`."""
    end, shown = column.x - 30, canvas.column(column.x + column.width + 70, 400)
    latent = column.put("EmptyLatentImage")
    sampler = column.put(
        "KSampler", model=railed(loaded.model, start, end, 0), positive=positive, negative=negative, latent_image=latent["LATENT"]
    )
    decoded = column.put("VAEDecode", samples=sampler["LATENT"], vae=railed(loaded.vae, start, end, 1))
    shown.put("SaveImage", "", 490, images=decoded["IMAGE"], filename_prefix=prefix)
    return shown
