"""The workflow that needs no download."""

from __future__ import annotations

from .canvas import Canvas, Node
from .sd15 import BLUE, BROWN, GREEN, PURPLE, railed, readme, results

SIZE, STEPS, GUIDANCE = 64, 15, 3.0
ROW = 360
PROMPTS = (
    ("On snow", "a photo of <subject> on snow"),
    ("In space", "a photo of a small <subject> with a crown in space on the right"),
    ("A sketch", "a sketch of <subject> with a hat on brick"),
    ("The class noun alone", "a photo of a <subject> on snow"),
)


def quickstart() -> Canvas:
    g = Canvas("miniature_quickstart")
    readme(
        g, "HybridBooth in the miniature world",
        "Press **Run**. Nothing is downloaded, and it takes less than a minute on a CPU.",
        "1. *Miniature Creature* draws a creature that the model has never seen, in place of your photo.\n"
        "2. The probe predicts five words from one look at it; five learned steps refine them. The *subject report* shows where the words "
        "look.\n"
        "3. *Inject Subject Tokens* returns a CLIP that knows `<subject>`; the prompts are stock nodes.\n"
        "4. The last image has `strength` 0: the plain class noun, for comparison.",
        "Change the creature's `number`, the prompts or the strength. The miniature knows few words: *photo, sketch, small, big; hat, "
        "crown; grass, snow, sand, brick, water, space; on the left, in the middle, on the right; at night, at sunset*.",
        "*Save Subject* writes the words to `models/embeddings`: `embedding:quickstart-creature` works in any prompt of this model, even "
        "without this pack.",
        "With a Stable Diffusion 1.5 model of your own, open *sd15_basic* next.",
        tall=350,
    )  # fmt: skip
    a, b = g.column(0, 320), g.column(420, 360)
    world = a.put("HybridBooth_LoadMiniatureWorld")
    creature = a.put("HybridBooth_MiniatureCreature")
    large = a.put("ImageScale", "Enlarge to view", image=creature["image"])
    a.put("PreviewImage", "The reference", 300, images=large["IMAGE"])

    probe = b.put("HybridBooth_LoadProbe")
    features = b.put("HybridBooth_ExtractFeatures", probe=probe["probe"], vae=world["VAE"], image=creature["image"], mask=creature["mask"])
    refined = b.put(
        "HybridBooth_RefineEmbedding", model=world["MODEL"], clip=world["CLIP"], vae=world["VAE"], probe=probe["probe"],
        features=features["features"], class_word=creature["class noun"],
    )  # fmt: skip
    b.put("HybridBooth_SaveSubject", subject=refined["subject"], name="quickstart-creature", overwrite=True)

    c, d, e, f = g.column(880, 380), g.column(1360, 300), g.column(1710, 280), g.column(2040, 300)
    clip = railed(world["CLIP"], 370, 830, 0)
    known = c.put("HybridBooth_InjectSubjectTokens", clip=clip, subject=refined["subject"])
    texts = []

    def prompt(row: int, known: Node) -> None:
        c.y = max(c.y, row * ROW)
        texts.append(c.put("CLIPTextEncode", PROMPTS[row][0], 120, clip=known["CLIP"], text=PROMPTS[row][1]))

    prompt(0, known)
    prompt(1, known)
    negative = c.put("CLIPTextEncode", "Negative prompt (empty)", 90, clip=clip)
    prompt(2, known)
    latent = c.put("EmptyLatentImage", width=SIZE, height=SIZE)
    c.y = 3 * ROW
    title, below = "Inject Subject Tokens (strength 0)", clip.via(*clip.path, (840, 3 * ROW - 60))
    prompt(3, c.put("HybridBooth_InjectSubjectTokens", title, clip=below, subject=refined["subject"], strength=0.0))
    for row, (title, _) in enumerate(PROMPTS):
        d.y = e.y = f.y = row * ROW
        sampler = d.put(
            "KSampler", model=railed(world["MODEL"], 370, 1310, 1), positive=texts[row]["CONDITIONING"], negative=negative["CONDITIONING"],
            latent_image=latent["LATENT"], steps=STEPS, cfg=GUIDANCE, sampler_name="euler", scheduler="normal",
        )  # fmt: skip
        decoded = e.put("VAEDecode", samples=sampler["LATENT"], vae=railed(world["VAE"], 370, 1680, 2))
        large = e.put("ImageScale", image=decoded["IMAGE"])
        f.put("PreviewImage", title, 290, images=large["IMAGE"])
    g.group("1  A world and a creature", BLUE, a)
    g.group("2  From its image to five words", GREEN, b)
    g.group("3  Prompts that name it", BROWN, c)
    g.group("4  Images", PURPLE, d, e, f)
    results(g, refined, 820, -520, 1070)
    return g
