"""The workflows for Stable Diffusion 1.5 that need a checkpoint and no probe, from left to right: your files, the subject, images."""

from __future__ import annotations

from .canvas import Canvas
from .parts import (
    BLUE,
    BROWN,
    GREEN,
    MASK,
    MODEL_FILE,
    NOUN,
    PHOTO,
    PROMPT,
    PURPLE,
    RED,
    Loaded,
    checkpoint,
    choose,
    personalized,
    prompts,
    railed,
    readme,
    sampled,
)  # fmt: skip

SLOWLY = (
    "Press **Run**. *Personalize Subject* takes about 30 steps through your model, with previews, a loss curve and the time left. "
    "After that, new prompts run at full speed."
)
KEEP = "### Keep it\nAdd the node *Save Subject* and connect `subject`. *6_load_subject* uses the file without a photo."


def one_photo() -> Canvas:
    g = Canvas("2_one_photo")
    readme(
        g, "A subject from one photo",
        "Needs a checkpoint and a photo, nothing else.",
        choose(MODEL_FILE, PHOTO, NOUN),
        f"### Then\n{SLOWLY}\n\nWrite your own prompt: `<subject>` stands in place of the noun. `(<subject>:0.8)` weights it.",
        f"### Better\n{MASK} Then connect `MASK` to `mask`.",
        KEEP,
        tall=560,
    )  # fmt: skip
    a, b, c = g.column(0, 300), g.column(370, 360), g.column(800, 310)
    loaded = checkpoint(a)
    photo = a.put("LoadImage", "Photo of the subject")
    subject = personalized(b, loaded, photo["IMAGE"])
    positive, negative = prompts(c, subject["CLIP"])
    shown = sampled(g, c, loaded, 335, positive, negative, "hybridbooth/one_photo")
    g.group("1  Your model and photo", BLUE, a)
    g.group("2  The subject", GREEN, b)
    g.group("3  Prompts that name it", BROWN, c)
    g.group("4  Image", PURPLE, shown)
    return g


def two_subjects() -> Canvas:
    g = Canvas("3_two_subjects")
    readme(
        g, "Two subjects in one prompt",
        "*Personalize Subject* twice, one behind the other: the second node's CLIP knows both names.",
        choose(MODEL_FILE, "*Load Image*: a photo of each.", f"{NOUN} For each.", "`name` of each: they must differ."),
        SLOWLY,
        f"### Better\n{MASK}",
        "### If they mix\nSay where each one is (*on the left*, *next to*), or give the weaker one more weight: `(<second>:1.2)`. To "
        "separate them strictly, use stock area nodes such as *Conditioning (Set Mask)* with one prompt each.",
        tall=620,
    )  # fmt: skip
    a, b, c, d = g.column(0, 300), g.column(370, 360), g.column(760, 360), g.column(1190, 310)
    loaded = checkpoint(a)
    photos = [a.put("LoadImage", f"The {name} subject") for name in ("first", "second")]
    first = personalized(b, loaded, photos[0]["IMAGE"], "Personalize <first>", "dog", mask=photos[0]["MASK"], name="first")
    near = Loaded(railed(loaded.model, 335, 745, 0), first["CLIP"], railed(loaded.vae, 335, 745, 1))
    second = personalized(c, near, photos[1]["IMAGE"], "Personalize <second>", "cat", mask=photos[1]["MASK"], name="second")
    prompt = "a photo of <first> on the left, sitting next to <second> on the right, on a sofa, highly detailed"
    positive, negative = prompts(d, second["CLIP"], prompt)
    shown = sampled(g, d, loaded, 335, positive, negative, "hybridbooth/two_subjects")
    g.group("1  Your model and photos", BLUE, a)
    g.group("2  The subjects", GREEN, b, c)
    g.group("3  Prompts that name them", BROWN, d)
    g.group("4  Image", PURPLE, shown)
    return g


def several_references() -> Canvas:
    g = Canvas("4_several_references")
    readme(
        g, "Several photos of one subject",
        "The steps use the photos in turn. What differs between them (light, background, pose) is averaged out of the subject, so use "
        "varied photos.",
        choose(
            MODEL_FILE,
            "Three photos of the same subject. They are cropped to the first one's shape. For two, remove the third node's links; for "
            "more, add nodes: *Batch Images* and *Batch Masks* grow.",
            NOUN,
        ),
        SLOWLY,
        f"### Better\n{MASK} Connect images and masks in the same order.",
        KEEP.replace("Add the node *Save Subject* and connect `subject`.", "*Save Subject* writes it to `models/embeddings`."),
        tall=640,
    )  # fmt: skip
    a, joined, b, c = g.column(0, 300), g.column(330, 220), g.column(620, 360), g.column(1050, 310)
    loaded = checkpoint(a)
    photos = [a.put("LoadImage", f"Photo {number}") for number in (1, 2, 3)]
    joined.y = photos[1].pos[1]
    images = joined.put("BatchImagesNode", images=[photo["IMAGE"] for photo in photos])
    masks = joined.put("BatchMasksNode", masks=[photo["MASK"] for photo in photos])
    subject = personalized(b, loaded, images["IMAGE"], mask=masks["MASK"])
    b.put("HybridBooth_SaveSubject", subject=subject["subject"])
    positive, negative = prompts(c, subject["CLIP"])
    shown = sampled(g, c, loaded, 585, positive, negative, "hybridbooth/several")
    g.group("1  Your model and photos", BLUE, a, joined)
    g.group("2  The subject", GREEN, b)
    g.group("3  Prompts that name it", BROWN, c)
    g.group("4  Image", PURPLE, shown)
    return g


def controlnet() -> Canvas:
    g = Canvas("5_controlnet")
    readme(
        g, "The subject in a given pose",
        "The subject is part of the prompt, so ControlNet works as usual: the stock nodes take the prompt's conditioning.",
        choose(
            MODEL_FILE, PHOTO, NOUN,
            "*Load ControlNet Model*: a ControlNet for Stable Diffusion 1.5, in `models/controlnet`; this workflow expects one for Canny "
            "edges.",
            "*Edges from this image*: another image; the result follows its outlines. A shape similar to your subject's works best.",
        ),
        SLOWLY,
        f"### Better\n{MASK}",
        "### If the subject gets lost\nLower the ControlNet's `strength` or `end_percent`, so that the last steps follow the subject.",
        tall=700,
    )  # fmt: skip
    a, b, c = g.column(0, 300), g.column(370, 360), g.column(800, 310)
    pose, control, d = g.column(1180, 300), g.column(1510, 300), g.column(1880, 310)
    loaded = checkpoint(a)
    photo = a.put("LoadImage", "Photo of the subject")
    subject = personalized(b, loaded, photo["IMAGE"], mask=photo["MASK"])
    positive, negative = prompts(c, subject["CLIP"])
    shape = pose.put("LoadImage", "Edges from this image")
    edges = pose.put("Canny", image=shape["IMAGE"])
    net = control.put("ControlNetLoader")
    applied = control.put(
        "ControlNetApplyAdvanced", positive=positive, negative=negative, control_net=net["CONTROL_NET"], image=edges["IMAGE"]
    )
    control.put("PreviewImage", "The edges", 270, images=edges["IMAGE"])
    shown = sampled(g, d, loaded, 335, applied["positive"], applied["negative"], "hybridbooth/controlnet")
    g.group("1  Your model and photo", BLUE, a)
    g.group("2  The subject", GREEN, b)
    g.group("3  Prompts that name it", BROWN, c)
    g.group("4  The pose", RED, pose, control)
    g.group("5  Image", PURPLE, d, shown)
    return g


def load_subject() -> Canvas:
    g = Canvas("6_load_subject")
    readme(
        g, "A subject from a file",
        "Uses a subject that you or somebody else saved before. No photo is needed, and no steps are taken.",
        choose(
            MODEL_FILE,
            "*Load Subject*: a `.safetensors` file in `models/embeddings`, as *Save Subject* writes it. Embeddings of other trainers "
            "work if they hold one tensor `emb_params`; they have `strength` 1 only.",
            "`name`: the subject's name in your prompt: *subject* for `<subject>`.",
        ),
        "### strength\n0 is the plain noun, exactly as without HybridBooth; 1 is the subject; above 1 it is stronger. In a prompt, "
        "`(<subject>:0.8)` weights it like any word.",
        tall=470,
    )  # fmt: skip
    a, c = g.column(0, 300), g.column(370, 340)
    loaded = checkpoint(a)
    subject = a.put("HybridBooth_LoadSubject")
    inject = c.put("HybridBooth_InjectSubjectTokens", clip=loaded.clip, subject=subject["subject"])
    positive, negative = prompts(c, inject["CLIP"], PROMPT)
    shown = sampled(g, c, loaded, 335, positive, negative, "hybridbooth/loaded")
    g.group("1  Your model and subject", BLUE, a)
    g.group("2  Prompts that name it", BROWN, c)
    g.group("3  Image", PURPLE, shown)
    return g
