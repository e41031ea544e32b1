"""The workflow that needs no download."""

from __future__ import annotations

from typing import Any

from .canvas import GAP, TITLE, Canvas, Column, Node, Slot
from .parts import BROWN, GREEN, PURPLE, readme

SIZE, STEPS, GUIDANCE = 64, 15, 3.0
PROMPTS = (
    ("On snow", "a photo of <subject> on snow"),
    ("In space", "a photo of a small <subject> with a crown in space on the right"),
    ("A sketch", "a sketch of <subject> with a hat on brick"),
)
SIZED = (
    ("On snow", "a photo of a big <subject> on snow"),
    ("In space", "a photo of a small <subject> with a crown in space on the right"),
    ("A sketch", "a sketch of a big <subject> with a hat on brick"),
)
"""For methods that change the model: their training names the size, and without it they may draw two."""
SHOWN = 240  # height of the images, which come first in their column, to be in view
COMPARED, NUMBER, NOUN = PROMPTS[0][1], 4, "rabbit"


def quickstart() -> Canvas:
    """A subject beside its class noun: the same prompt but for the name, the same seed."""
    g = Canvas("1_quickstart")
    readme(
        g, "Start here",
        "Press **Run**. Nothing is downloaded; it takes seconds on a CPU.",
        f"**Look at** the two images on the right: same prompt, same seed. The first says `<subject>` and shows the creature of the photo; "
        f"the second says *{NOUN}* and shows any {NOUN}.",
        "*Personalize Subject* shows the photo, and where the subject's words look.",
        "**Then** try another prompt, as *a sketch of <subject> with a hat on brick*. This miniature knows few words: the help page of "
        "*Load Miniature World* lists them.",
        "**Next, with your own checkpoint and photo: open *2_one_photo***.",
        tall=290, x=0, width=280,
    )  # fmt: skip
    a, b, c, d, e = g.column(0, 280, 290 + 118), g.column(350, 300), g.column(720, 260), g.column(1010, 230), g.column(1280, 360)
    world = a.put("HybridBooth_LoadMiniatureWorld")
    creature = a.put("HybridBooth_MiniatureCreature", number=NUMBER)
    subject = b.put(
        "HybridBooth_PersonalizeSubject", model=world["MODEL"], clip=world["CLIP"], vae=world["VAE"], image=creature["image"],
        mask=creature["mask"], probe=world["probe"], class_word=creature["class noun"],
    )  # fmt: skip
    _compare(g, c, d, e, subject["CLIP"], world["MODEL"], world, b.y)
    g.group("1  A creature", GREEN, a)
    g.group("2  The subject", BROWN, b)
    g.group("3  The same prompt, with and without its name", PURPLE, c, d, e)
    return g


def hyperdreambooth() -> Canvas:
    """Weights predicted from one look, finetuned for a few steps."""
    g = Canvas("9_hyperdreambooth")
    readme(
        g, "HyperDreamBooth",
        "Press **Run**. Nothing is downloaded; it takes a minute on a CPU.",
        "A *hypernetwork* looks at the photo once and predicts a small set of weights; *Finetune Weights* trains a LoRA beside them for "
        "forty steps. The caption says what else the photo shows, so that the weights need not learn it.",
        "**Look at** the two images on the right: same prompt, same seed, with the subject and with its noun.",
        "**Then** wire the weights from *Predict Weights* straight to *Apply Weights*: no training step at all.",
        "**Next, with your own checkpoint**: nobody has published a hypernetwork for Stable Diffusion 1.5. *Finetune Weights* works "
        "without one, and *hybridbooth train-hypernetwork* trains one.",
        tall=420, x=0, width=280,
    )  # fmt: skip
    a, b, b2, c, d, e = (g.column(x, width, y) for x, width, y in (
        (0, 280, 420 + 118), (350, 300, 0), (690, 300, 0), (1060, 260, 0), (1350, 230, 0), (1620, 360, 0)
    ))  # fmt: skip
    world = a.put("HybridBooth_LoadMiniatureWorld")
    creature = a.put("HybridBooth_MiniatureCreature", number=NUMBER)
    wired: dict[str, Any] = {name.lower(): world[name] for name in ("MODEL", "CLIP", "VAE")}
    wired |= {name: creature[name] for name in ("image", "mask")}
    network = b.put("HybridBooth_LoadHypernetwork")
    weights = b.put("HybridBooth_PredictWeights", hypernetwork=network["hypernetwork"], class_word=creature["class noun"], **wired)
    tuned = b2.put("HybridBooth_FinetuneWeights", start=weights["weights"], caption="on grass", **wired)
    applied = b2.put("HybridBooth_ApplyWeights", model=world["MODEL"], clip=world["CLIP"], weights=tuned["weights"])
    _compare(g, c, d, e, applied["CLIP"], applied["MODEL"], world, b2.y, SIZED[0][1])
    g.group("1  A creature", GREEN, a)
    g.group("2  Weights: predicted, then finetuned", BROWN, b, b2)
    g.group("3  The same prompt, with and without its name", PURPLE, c, d, e)
    return g


def instantbooth() -> Canvas:
    """A subject without any training step: an adapter reads the photo while the model draws."""
    g = Canvas("9_instantbooth")
    readme(
        g, "InstantBooth",
        "Press **Run**. Nothing is downloaded; it takes seconds on a CPU.",
        "There is no training step: an *adapter* reads the photo, and its layers act while the model draws. They hang on the prompts that "
        "name the subject, so the plain MODEL stays wired, and masks, areas, ControlNet and samplers work as usual.",
        "**Look at** the two images on the right: same prompt, same seed, with the subject and with its noun.",
        "**Then** lower *beta* in *Apply Instant Subject*: less likeness.",
        "**Next, with your own checkpoint**: nobody has published an adapter for Stable Diffusion 1.5; *hybridbooth train-adapter* trains "
        "one.",
        tall=380, x=0, width=280,
    )  # fmt: skip
    a, b, c, d, e = g.column(0, 280, 380 + 118), g.column(350, 300), g.column(720, 260), g.column(1010, 230), g.column(1280, 360)
    world = a.put("HybridBooth_LoadMiniatureWorld")
    creature = a.put("HybridBooth_MiniatureCreature", number=NUMBER)
    adapter = b.put("HybridBooth_LoadInstantAdapter")
    reading = b.put(
        "HybridBooth_ReadReferences", adapter=adapter["adapter"], model=world["MODEL"], clip=world["CLIP"], vae=world["VAE"],
        image=creature["image"], mask=creature["mask"], class_word=creature["class noun"],
    )  # fmt: skip
    subject = b.put("HybridBooth_ApplyInstantSubject", clip=world["CLIP"], reading=reading["reading"])
    _compare(g, c, d, e, subject["CLIP"], world["MODEL"], world, max(b.y, 720.0), SIZED[0][1])
    g.group("1  A creature", GREEN, a)
    g.group("2  The subject, read", BROWN, b)
    g.group("3  The same prompt, with and without its name", PURPLE, c, d, e)
    return g


def _compare(
    g: Canvas, prompts: Column, samplers: Column, shown: Column, clip: Slot, model: Slot, world: Node, below: float, prompt: str = COMPARED
) -> None:
    """Two images of the same seed, with the subject's name in the prompt and with its noun; links to the samplers run at y = `below`."""
    c, d, e = prompts, samplers, shown
    named = c.put("CLIPTextEncode", "Prompt: the subject", 110, clip=clip, text=prompt)
    plain = c.put("CLIPTextEncode", "Prompt: the class noun", 110, clip=clip, text=prompt.replace("<subject>", NOUN))
    negative = c.put("CLIPTextEncode", "Negative prompt (empty)", 110, clip=clip)
    model, latent, vae = (
        slot.via((start, below + 16 * lane), (end, below + 16 * lane))
        for lane, (slot, start, end) in enumerate(
            (
                (model, 315 if model == world["MODEL"] else c.x - 30, d.x - 15),
                (world["empty latent"], 315, d.x - 15),
                (world["VAE"], 315, e.x - 20),
            )
        )
    )
    latents = []
    for title, text in (("The subject", named), ("The class noun", plain)):
        sampler = d.put(
            "KSampler", title, model=model, positive=text["CONDITIONING"], negative=negative["CONDITIONING"], latent_image=latent,
            steps=STEPS, cfg=GUIDANCE, sampler_name="euler", scheduler="normal",
        )  # fmt: skip
        latents.append(sampler["LATENT"])
    e.y = SHOWN + GAP + TITLE
    both = e.put("BatchLatentsNode", latents=latents)
    decoded = e.put("VAEDecode", samples=both["LATENT"], vae=vae)
    large = e.put("ImageScale", "Enlarge to view", image=decoded["IMAGE"])
    e.y = 0
    e.put("PreviewImage", "The subject, the class noun", SHOWN, images=large["IMAGE"])
