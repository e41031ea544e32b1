"""The workflows that need a trained probe for Stable Diffusion 1.5."""

from __future__ import annotations

from .canvas import Canvas, Node
from .parts import (
    BLUE,
    BROWN,
    GREEN,
    MASK,
    MODEL_FILE,
    NOUN,
    PHOTO,
    PURPLE,
    TEAL,
    checkpoint,
    choose,
    personalized,
    prompts,
    railed,
    readme,
    sampled,
)  # fmt: skip

NONE_YET = (
    "**Needs a trained probe for Stable Diffusion 1.5, and none has been published yet.** Make one for your checkpoint, from "
    "nothing but the checkpoint, with the node *Make Probe From Checkpoint* (hours, see docs/own_probe.md); until then, open "
    "*2_one_photo*."
)
PROBE = (
    "*Load Probe*: the probe, in `models/hybridbooth`. It reads the photo through CLIP ViT-L/14 and DINOv2: files in `models/clip_vision` "
    "and `models/hybridbooth`, or use the node *Download Encoders*."
)
PROBE_FILE = "hybridbooth-sd15.safetensors"


def one_photo() -> Canvas:
    g = Canvas("7_needs_probe")
    readme(
        g, "With a probe: ten steps instead of thirty",
        NONE_YET,
        "The probe predicts five words from one look at the photo; ten or more gradient steps refine them through your own model.",
        choose(MODEL_FILE, PROBE, PHOTO, NOUN),
        f"### Better\n{MASK}",
        tall=560,
    )  # fmt: skip
    a, b, c = g.column(0, 300), g.column(370, 360), g.column(800, 310)
    loaded = checkpoint(a)
    probe = a.put("HybridBooth_LoadProbe", probe=PROBE_FILE)
    photo = a.put("LoadImage", "Photo of the subject")
    subject = personalized(b, loaded, photo["IMAGE"], mask=photo["MASK"], probe=probe["probe"])
    b.put("HybridBooth_SaveSubject", subject=subject["subject"])
    positive, negative = prompts(c, subject["CLIP"])
    shown = sampled(g, c, loaded, 335, positive, negative, "hybridbooth/probe")
    g.group("1  Your model, probe and photo", BLUE, a)
    g.group("2  The subject", GREEN, b)
    g.group("3  Prompts that name it", BROWN, c)
    g.group("4  Image", PURPLE, shown)
    return g


def step_by_step() -> Canvas:
    g = Canvas("8_needs_probe_step_by_step")
    readme(
        g, "Step by step: what Personalize Subject does with a probe",
        NONE_YET,
        "Features of the photo, the probe's prediction and its refinement, and the CLIP that knows the subject, each in a node of its own, "
        "with all settings.",
        choose(MODEL_FILE, PROBE, PHOTO, NOUN, "`mode`, `steps` and `step size` of the refinement."),
        "`strength` 0 is the plain noun, exactly as without HybridBooth; above 1 exaggerates the subject.",
        f"### Better\n{MASK}",
        tall=660,
    )  # fmt: skip
    a, b, c = g.column(0, 300), g.column(370, 360), g.column(800, 310)
    loaded = checkpoint(a)
    photo = a.put("LoadImage", "Photo of the subject")
    probe = b.put("HybridBooth_LoadProbe", probe=PROBE_FILE)
    features = b.put(
        "HybridBooth_ExtractFeatures", probe=probe["probe"], vae=loaded.vae, image=photo["IMAGE"], mask=photo["MASK"]
    )  # fmt: skip
    refined = b.put(
        "HybridBooth_RefineEmbedding", model=loaded.model, clip=loaded.clip, vae=loaded.vae, probe=probe["probe"],
        features=features["features"], class_word="dog",
    )  # fmt: skip
    b.put("HybridBooth_SaveSubject", subject=refined["subject"])
    inject = c.put("HybridBooth_InjectSubjectTokens", clip=railed(loaded.clip, 335, 765, 2), subject=refined["subject"])
    positive, negative = prompts(c, inject["CLIP"])
    shown = sampled(g, c, loaded, 335, positive, negative, "hybridbooth/step_by_step")
    g.group("1  Your model and photo", BLUE, a)
    g.group("2  From the photo to five words", GREEN, b)
    g.group("3  Prompts that name it", BROWN, c)
    g.group("4  Image", PURPLE, shown)
    results(g, refined, 765, 1180, 640)
    return g


def results(canvas: Canvas, refined: Node, start: float, x: float, y: float) -> None:
    """Shows the reports of the refining node, from (x, y) on; links run down at x = `start`, then above the group."""
    drawing, text = canvas.column(x, 800, y), canvas.column(x + 836, 344, y)
    lane, beside = y - 122, x + 818
    image = refined["subject report"]
    words = refined["report"].via((start, lane + 16), (beside, lane + 16))
    drawing.put("PreviewImage", "Subject report", 500, images=image)
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
