"""The workflow that needs no download."""

from __future__ import annotations

from .canvas import GAP, TITLE, Canvas
from .parts import BROWN, GREEN, PURPLE, readme

SIZE, STEPS, GUIDANCE = 64, 15, 3.0
PROMPTS = (
    ("On snow", "a photo of <subject> on snow"),
    ("In space", "a photo of a small <subject> with a crown in space on the right"),
    ("A sketch", "a sketch of <subject> with a hat on brick"),
)
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
    named = c.put("CLIPTextEncode", "Prompt: the subject", 110, clip=subject["CLIP"], text=COMPARED)
    plain = c.put("CLIPTextEncode", "Prompt: the class noun", 110, clip=subject["CLIP"], text=COMPARED.replace("<subject>", NOUN))
    negative = c.put("CLIPTextEncode", "Negative prompt (empty)", 110, clip=subject["CLIP"])
    below = b.y  # links to the samplers run under the subject
    model, latent, vae = (
        world[name].via((315, below + 16 * lane), (end, below + 16 * lane))
        for lane, (name, end) in enumerate((("MODEL", 995), ("empty latent", 995), ("VAE", 1260)))
    )
    latents = []
    for title, prompt in (("The subject", named), ("The class noun", plain)):
        sampler = d.put(
            "KSampler", title, model=model, positive=prompt["CONDITIONING"], negative=negative["CONDITIONING"], latent_image=latent,
            steps=STEPS, cfg=GUIDANCE, sampler_name="euler", scheduler="normal",
        )  # fmt: skip
        latents.append(sampler["LATENT"])
    e.y = SHOWN + GAP + TITLE
    both = e.put("BatchLatentsNode", latents=latents)
    decoded = e.put("VAEDecode", samples=both["LATENT"], vae=vae)
    large = e.put("ImageScale", "Enlarge to view", image=decoded["IMAGE"])
    e.y = 0
    e.put("PreviewImage", "The subject, the class noun", SHOWN, images=large["IMAGE"])
    g.group("1  A creature", GREEN, a)
    g.group("2  The subject", BROWN, b)
    g.group("3  The same prompt, with and without its name", PURPLE, c, d, e)
    return g
