"""The workflows for Stable Diffusion 1.5, from left to right: your files, the subject, the generated images."""

from __future__ import annotations

from dataclasses import dataclass

from .canvas import Canvas, Column, Node, Slot

BLUE, GREEN, BROWN, PURPLE, TEAL = "#3f789e", "#3f7a4a", "#8a5a2b", "#6a3f8a", "#2f7f7f"
NEGATIVE = "blurry, lowres, deformed, text, watermark"
TOP = -150  # of the rails

MODEL_FILE = "*Load Checkpoint*: any Stable Diffusion 1.5 model, in `models/checkpoints`."
PHOTO = (
    "*Load Image*: a photo of your subject. Right-click it, choose *Open in Mask Editor* and paint over the subject. (To go without a "
    "mask, remove the links of `mask`; the background is then learned as well.)"
)
PROBE = (
    "*Load Probe*: a probe for Stable Diffusion 1.5, in `models/hybridbooth`. **None has been published yet**: until then open "
    "*sd15_probe_free*. (A probe needs CLIP ViT-L/14 and DINOv2: files in "
    "`models/clip_vision` and `models/hybridbooth`, or use the node *Download Encoders*.)"
)
NOUN = "*class noun*: what the subject is, in one noun: *dog, backpack, teapot*."


def readme(canvas: Canvas, title: str, *paragraphs: str, tall: float) -> None:
    """The note on the far left."""
    canvas.column(-520, 460).note("\n\n".join([f"## {title}", *paragraphs]), tall, "Read me")


def files(*lines: str) -> str:
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
    height = TOP - 26 * lane
    return slot.via((start, height), (end, height))


def personalize(column: Column, loaded: Loaded, image: Slot, mask: Slot) -> Node:
    """Adds the nodes from images to a saved subject, with a probe. Returns the refining node."""
    probe = column.put("HybridBooth_LoadProbe", probe="hybridbooth-sd15.safetensors")
    features = column.put("HybridBooth_ExtractFeatures", probe=probe["probe"], vae=loaded.vae, image=image, mask=mask)
    refined = column.put(
        "HybridBooth_RefineEmbedding", model=loaded.model, clip=loaded.clip, vae=loaded.vae, probe=probe["probe"],
        features=features["features"], class_word="dog",
    )  # fmt: skip
    column.put("HybridBooth_SaveSubject", subject=refined["subject"])
    return refined


def results(canvas: Canvas, refined: Node, start: float, x: float, y: float) -> None:
    """Shows the reports of the refining node, from (x, y) on; links run down at x = `start`, then above the group."""
    drawing, text = canvas.column(x, 900, y), canvas.column(x + 936, 360, y)
    lane, beside = y - 116, x + 918
    image = refined["subject report"].via((start, lane), (x - 36, lane)) if start > x else refined["subject report"]
    words = refined["report"].via((start, lane + 16), (beside, lane + 16))
    drawing.put("PreviewImage", "Subject report", 560, images=image)
    text.put("PreviewAny", "Report as text", 190, source=words)
    text.note(
        "- *Where its words look*: attention should be stronger on the subject than on the background.\n- The circled step was kept. "
        "Step 0 means that no step improved on the initial words; that is not an error.\n- If the words hardly moved, or the subject is "
        "right but ignores your prompt: the report shows the step size that was used; enter a larger or a smaller one as *step size* "
        "(0 uses the recommended one), or change `steps`.",
        306,
        "How to read it",
    )
    canvas.group("Reports", TEAL, drawing, text)


def prompts(column: Column, clip: Slot, plain: Slot, prompt: str) -> tuple[Slot, Slot]:
    """The positive prompt, read by the CLIP that knows the subject, and the negative one."""
    positive = column.put("CLIPTextEncode", "Prompt", 130, clip=clip, text=prompt)
    negative = column.put("CLIPTextEncode", "Negative prompt", 110, clip=plain, text=NEGATIVE)
    return positive["CONDITIONING"], negative["CONDITIONING"]


def sampled(canvas: Canvas, x: float, loaded: Loaded, start: float, positive: Slot, negative: Slot, prefix: str) -> tuple[Column, Column]:
    """From conditioning to a saved image, in two columns; `start` is where the rails of model and VAE begin."""
    work, shown = canvas.column(x, 320), canvas.column(x + 380, 420)
    latent = work.put("EmptyLatentImage")
    sampler = work.put(
        "KSampler", model=railed(loaded.model, start, x - 34, 1), positive=positive, negative=negative, latent_image=latent["LATENT"]
    )
    decoded = work.put("VAEDecode", samples=sampler["LATENT"], vae=railed(loaded.vae, start, x - 34, 2))
    shown.put("SaveImage", "", 490, images=decoded["IMAGE"], filename_prefix=prefix)
    return work, shown


def basic() -> Canvas:
    g = Canvas("sd15_basic")
    readme(
        g, "One photo of a subject, in any scene",
        "The probe predicts five words from one look at your photo; five gradient steps refine them through your own model. Any prompt can "
        "then use them as `<subject>`. The model itself does not change.",
        files(MODEL_FILE, PHOTO, PROBE, NOUN),
        "### Then\nWrite `<subject>` in place of the noun and press **Run**. The subject is refined once; new prompts then run at full "
        "speed.\n\n"
        "`strength` 0 is the plain noun, exactly as without HybridBooth; above 1 exaggerates the subject.\n\n"
        "*Save Subject* writes the words to `models/embeddings` (15 KB): `embedding:my-subject` then works in every prompt, even without "
        "this pack. Turn `overwrite` on to save under the same name again.",
        tall=450,
    )  # fmt: skip
    a, b, c = g.column(0, 340), g.column(440, 380), g.column(920, 380)
    loaded = checkpoint(a)
    photo = a.put("LoadImage", "Photo of the subject", 420)
    refined = personalize(b, loaded, photo["IMAGE"], photo["MASK"])
    inject = c.put("HybridBooth_InjectSubjectTokens", clip=railed(loaded.clip, 390, 870, 0), subject=refined["subject"])
    plain = railed(loaded.clip, 390, 870, 0)
    positive, negative = prompts(c, inject["CLIP"], plain, "a photo of <subject> on a beach at sunset, highly detailed")
    d, e = sampled(g, 1400, loaded, 390, positive, negative, "hybridbooth/basic")
    g.group("1  Your model and photo", BLUE, a)
    g.group("2  From the photo to five words", GREEN, b)
    g.group("3  Prompts that name it", BROWN, c)
    g.group("4  Image", PURPLE, d, e)
    results(g, refined, 860, 920, 720)
    return g


def controlnet() -> Canvas:
    g = Canvas("sd15_controlnet")
    readme(
        g, "The subject in a given pose",
        "The subject is part of the prompt, so ControlNet works as usual: the stock nodes take the prompt's conditioning.",
        files(
            MODEL_FILE, PHOTO, PROBE, NOUN,
            "*Load ControlNet Model*: a ControlNet for Stable Diffusion 1.5, in `models/controlnet`; this workflow expects one for Canny "
            "edges.",
            "*Edges from this image*: another image; the result follows its outlines. A shape similar to your subject's works best.",
        ),
        "### If the subject gets lost\nLower the ControlNet's `strength` or `end_percent`, so that the last steps follow the subject.",
        tall=450,
    )  # fmt: skip
    a, b, c = g.column(0, 340), g.column(440, 380), g.column(920, 380)
    loaded = checkpoint(a)
    photo = a.put("LoadImage", "Photo of the subject", 420)
    refined = personalize(b, loaded, photo["IMAGE"], photo["MASK"])
    clip = railed(loaded.clip, 390, 870, 0)
    inject = c.put("HybridBooth_InjectSubjectTokens", clip=clip, subject=refined["subject"])
    positive, negative = prompts(c, inject["CLIP"], clip, "a photo of <subject> on a beach at sunset, highly detailed")
    pose, control = g.column(1400, 320), g.column(1760, 320)
    shape = pose.put("LoadImage", "Edges from this image", 330)
    edges = pose.put("Canny", image=shape["IMAGE"])
    net = control.put("ControlNetLoader")
    applied = control.put(
        "ControlNetApplyAdvanced", positive=positive, negative=negative, control_net=net["CONTROL_NET"], image=edges["IMAGE"]
    )
    control.put("PreviewImage", "The edges", 270, images=edges["IMAGE"])
    d, e = sampled(g, 2180, loaded, 390, applied["positive"], applied["negative"], "hybridbooth/controlnet")
    g.group("1  Your model and photo", BLUE, a)
    g.group("2  From the photo to five words", GREEN, b)
    g.group("3  Prompts that name it", BROWN, c)
    g.group("4  The pose", "#7a3f4f", pose, control)
    g.group("5  Image", PURPLE, d, e)
    results(g, refined, 860, 920, 800)
    return g


def several_references() -> Canvas:
    g = Canvas("sd15_several_references")
    readme(
        g, "Several photos of one subject",
        "The probe's predictions for all photos are averaged, and the steps use the photos in turn. What differs between them "
        "(light, background, pose) is averaged out of the words, so use varied photos.",
        files(
            MODEL_FILE,
            "Three photos of the same subject, each with the subject painted in its *Mask Editor*. They are cropped to the first one's "
            "shape. For two photos, remove the third node's links; for more, add nodes: *Batch Images* and *Batch Masks* grow.",
            PROBE, NOUN,
        ),
        "Connect images and masks in the same order.",
        tall=360,
    )  # fmt: skip
    a, joined, b, c = g.column(0, 340), g.column(380, 240), g.column(720, 380), g.column(1200, 380)
    loaded = checkpoint(a)
    photos = [a.put("LoadImage", f"Photo {number}", 326) for number in (1, 2, 3)]
    joined.y = photos[1].pos[1]
    images = joined.put("BatchImagesNode", images=[photo["IMAGE"] for photo in photos])
    masks = joined.put("BatchMasksNode", masks=[photo["MASK"] for photo in photos])
    near = Loaded(railed(loaded.model, 360, 670, 1), railed(loaded.clip, 360, 670, 0), railed(loaded.vae, 360, 670, 2))
    refined = personalize(b, near, images["IMAGE"], masks["MASK"])
    clip = railed(loaded.clip, 360, 1150, 0)
    inject = c.put("HybridBooth_InjectSubjectTokens", clip=clip, subject=refined["subject"])
    positive, negative = prompts(c, inject["CLIP"], clip, "a photo of <subject> on a beach at sunset, highly detailed")
    d, e = sampled(g, 1680, loaded, 360, positive, negative, "hybridbooth/several")
    g.group("1  Your model and photos", BLUE, a, joined)
    g.group("2  From the photos to five words", GREEN, b)
    g.group("3  Prompts that name it", BROWN, c)
    g.group("4  Image", PURPLE, d, e)
    results(g, refined, 1140, 1200, 720)
    return g


def load_subject() -> Canvas:
    g = Canvas("sd15_load_subject")
    readme(
        g, "A subject from a file",
        "Uses the words of a subject that you or somebody else saved before. No photo or probe is needed.",
        files(
            MODEL_FILE,
            "*Load Subject*: a `.safetensors` file in `models/embeddings`. Embeddings from other trainers work if they hold one tensor "
            "`emb_params`; they have `strength` 1 only.",
            "`name`: the subject's name in your prompt: *subject* for `<subject>`.",
        ),
        "### strength\n0 is the plain noun, exactly as without HybridBooth; 1 is the subject; up to 2 exaggerates it. In a prompt, "
        "`(<subject>:0.8)` weights it like any word.",
        tall=290,
    )  # fmt: skip
    a, c = g.column(0, 340), g.column(440, 400)
    loaded = checkpoint(a)
    subject = a.put("HybridBooth_LoadSubject")
    inject = c.put("HybridBooth_InjectSubjectTokens", clip=loaded.clip, subject=subject["subject"])
    positive, negative = prompts(c, inject["CLIP"], loaded.clip, "a photo of <subject> on a beach at sunset, highly detailed")
    d, e = sampled(g, 940, loaded, 390, positive, negative, "hybridbooth/loaded")
    g.group("1  Your model and subject", BLUE, a)
    g.group("2  Prompts that name it", BROWN, c)
    g.group("3  Image", PURPLE, d, e)
    return g


def two_subjects() -> Canvas:
    g = Canvas("sd15_two_subjects")
    readme(
        g, "Two subjects in one prompt",
        "*Inject Subject Tokens* is chained: the second node's CLIP knows both names, and the prompt can use both.",
        files(
            MODEL_FILE,
            "Two *Load Subject* nodes: files in `models/embeddings`, saved with *Save Subject* in one of the other workflows "
            "under these names (change its default, *my-subject*).",
            "`name` of each, here *first* and *second*: the names must differ.",
        ),
        "### If they mix\nDescribe where each one is (*on the left*, *next to*), give the weaker one more weight: `(<second>:1.2)`, or "
        "lower the stronger one's `strength`. To separate them strictly, use stock area nodes such as *Conditioning (Set Mask)* with one "
        "prompt each.",
        tall=320,
    )  # fmt: skip
    a, b, c = g.column(0, 340), g.column(440, 340), g.column(880, 400)
    loaded = checkpoint(a)
    subjects = [a.put("HybridBooth_LoadSubject", f"The {name} subject", subject=f"{name}.safetensors") for name in ("first", "second")]
    first = b.put("HybridBooth_InjectSubjectTokens", "Inject <first>", clip=loaded.clip, subject=subjects[0]["subject"], name="first")
    second = b.put("HybridBooth_InjectSubjectTokens", "Inject <second>", clip=first["CLIP"], subject=subjects[1]["subject"], name="second")
    prompt = "a photo of <first> on the left, sitting next to <second> on the right, on a sofa, highly detailed"
    positive, negative = prompts(c, second["CLIP"], railed(loaded.clip, 390, 830, 0), prompt)
    d, e = sampled(g, 1380, loaded, 390, positive, negative, "hybridbooth/two")
    g.group("1  Your model and subjects", BLUE, a)
    g.group("2  A CLIP that knows both", GREEN, b)
    g.group("3  Prompts that name them", BROWN, c)
    g.group("4  Image", PURPLE, d, e)
    return g


def probe_free() -> Canvas:
    g = Canvas("sd15_probe_free")
    readme(
        g, "Without a probe",
        "*Probe-Free Start* optimizes the class noun to match your photo in CLIP's embedding space; *Refine Subject* then takes about "
        "30 steps through your model, where a probe needs 5. This is slower, and less faithful to the subject, than with a probe.",
        files(
            MODEL_FILE, PHOTO,
            "The full CLIP ViT-L/14 file, in `models/clip_vision` or `models/hybridbooth`: the node *Download Encoders* downloads it.",
            "*class noun*: what the subject is, in one noun. Empty: CLIP finds one, and the report names it.",
        ),
        "### Then\nWrite `<subject>` in place of the noun and press **Run**. *Save Subject* writes the words to `models/embeddings`; "
        "*sd15_load_subject* can use them without repeating these steps.",
        tall=430,
    )  # fmt: skip
    a, b, c = g.column(0, 340), g.column(440, 380), g.column(920, 380)
    loaded = checkpoint(a)
    photo = a.put("LoadImage", "Photo of the subject", 420)
    image, mask = photo["IMAGE"], photo["MASK"]
    start = b.put("HybridBooth_ProbeFreeStart", clip=loaded.clip, class_word="dog", image=image, mask=mask)
    refined = b.put(
        "HybridBooth_RefineSubject", model=loaded.model, clip=loaded.clip, vae=loaded.vae, subject=start["subject"], image=image,
        mask=mask,
    )  # fmt: skip
    b.put("HybridBooth_SaveSubject", subject=refined["subject"])
    clip = railed(loaded.clip, 390, 870, 0)
    inject = c.put("HybridBooth_InjectSubjectTokens", clip=clip, subject=refined["subject"])
    positive, negative = prompts(c, inject["CLIP"], clip, "a photo of <subject> on a beach at sunset, highly detailed")
    d, e = sampled(g, 1400, loaded, 390, positive, negative, "hybridbooth/probe-free")
    g.group("1  Your model and photo", BLUE, a)
    g.group("2  From the photo to five words", GREEN, b)
    g.group("3  Prompts that name it", BROWN, c)
    g.group("4  Image", PURPLE, d, e)
    results(g, refined, 860, 920, 720)
    return g
