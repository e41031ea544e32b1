"""The sockets of the workflows' nodes, and their widgets with the workflows' default values.

Tests compare this with the node definitions of a running ComfyUI.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .models import CANNY, CHECKPOINT


@dataclass(frozen=True)
class Kind:
    """Names of sockets to types, names of widgets (in their order on the node) to values, and the node's height."""

    height: float
    inputs: dict[str, str] = field(default_factory=dict)
    widgets: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)


STOCK = {
    "MarkdownNote": Kind(200, {}, {"text": ""}),
    "CheckpointLoaderSimple": Kind(126, {}, {"ckpt_name": CHECKPOINT}, {"MODEL": "MODEL", "CLIP": "CLIP", "VAE": "VAE"}),
    "LoadImage": Kind(350, {}, {"image": "example.png"}, {"IMAGE": "IMAGE", "MASK": "MASK"}),
    "CLIPTextEncode": Kind(110, {"clip": "CLIP"}, {"text": ""}, {"CONDITIONING": "CONDITIONING"}),
    "EmptyLatentImage": Kind(118, {}, {"width": 512, "height": 512, "batch_size": 1}, {"LATENT": "LATENT"}),
    "KSampler": Kind(
        262,
        {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent_image": "LATENT"},
        {"seed": 1, "control_after_generate": "fixed", "steps": 25, "cfg": 7.0, "sampler_name": "dpmpp_2m", "scheduler": "karras",
         "denoise": 1.0},
        {"LATENT": "LATENT"},
    ),
    "BatchLatentsNode": Kind(106, {f"latents.latent{i}": "LATENT" for i in range(3)}, {}, {"LATENT": "LATENT"}),
    "VAEDecode": Kind(54, {"samples": "LATENT", "vae": "VAE"}, {}, {"IMAGE": "IMAGE"}),
    "ImageScale": Kind(
        146, {"image": "IMAGE"}, {"upscale_method": "nearest-exact", "width": 256, "height": 256, "crop": "disabled"}, {"IMAGE": "IMAGE"}
    ),
    "SaveImage": Kind(400, {"images": "IMAGE"}, {"filename_prefix": "hybridbooth"}),
    "PreviewImage": Kind(300, {"images": "IMAGE"}),
    "PreviewAny": Kind(120, {"source": "*"}),
    "Canny": Kind(90, {"image": "IMAGE"}, {"low_threshold": 0.2, "high_threshold": 0.5}, {"IMAGE": "IMAGE"}),
    "ControlNetLoader": Kind(86, {}, {"control_net_name": CANNY}, {"CONTROL_NET": "CONTROL_NET"}),
    "ControlNetApplyAdvanced": Kind(
        198,
        {"positive": "CONDITIONING", "negative": "CONDITIONING", "control_net": "CONTROL_NET", "image": "IMAGE", "vae": "VAE"},
        {"strength": 0.8, "start_percent": 0.0, "end_percent": 0.9},
        {"positive": "CONDITIONING", "negative": "CONDITIONING"},
    ),
    "BatchImagesNode": Kind(106, {f"images.image{i}": "IMAGE" for i in range(3)}, {}, {"IMAGE": "IMAGE"}),
    "BatchMasksNode": Kind(106, {f"masks.mask{i}": "MASK" for i in range(3)}, {}, {"MASK": "MASK"}),
}  # fmt: skip

OURS = {
    "PersonalizeSubject": Kind(
        886,
        {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "image": "IMAGE", "mask": "MASK", "probe": "HB_PROBE",
         "clip_vision": "CLIP_VISION"},
        {"class_word": "", "name": "subject", "steps": 0, "seed": 0, "preview": True, "invert_mask": False, "caption": ""},
        {"CLIP": "CLIP", "subject": "HB_SUBJECT", "subject report": "IMAGE", "report": "STRING"},
    ),
    "LoadMiniatureWorld": Kind(
        138, {}, {}, {"MODEL": "MODEL", "CLIP": "CLIP", "VAE": "VAE", "probe": "HB_PROBE", "empty latent": "LATENT"}
    ),
    "MiniatureCreature": Kind(
        266,
        {},
        {"number": 4, "background": "grass", "place": "middle", "size": "big", "accessory": "none", "style": "photo"},
        {"image": "IMAGE", "mask": "MASK", "class noun": "STRING"},
    ),
    "LoadProbe": Kind(130, {}, {"probe": "miniature"}, {"probe": "HB_PROBE", "about": "STRING"}),
    "ExtractFeatures": Kind(
        166,
        {"probe": "HB_PROBE", "vae": "VAE", "image": "IMAGE", "mask": "MASK", "clip_vision": "CLIP_VISION"},
        {"invert_mask": False},
        {"features": "HB_FEATURES"},
    ),
    "RefineEmbedding": Kind(
        502,
        {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "probe": "HB_PROBE", "features": "HB_FEATURES"},
        {"class_word": "", "mode": "auto", "steps": -1, "effective_step": 0.0, "seed": 0, "preview": True, "caption": ""},
        {"subject": "HB_SUBJECT", "report": "STRING", "subject report": "IMAGE"},
    ),
    "InjectSubjectTokens": Kind(142, {"clip": "CLIP", "subject": "HB_SUBJECT"}, {"name": "subject", "strength": 1.0}, {"CLIP": "CLIP"}),
    "SaveSubject": Kind(
        210, {"subject": "HB_SUBJECT", "preview": "IMAGE"}, {"name": "my-subject", "overwrite": False}, {"file name": "STRING"}
    ),
    "LoadHypernetwork": Kind(130, {}, {"hypernetwork": "miniature"}, {"hypernetwork": "HB_HYPERNETWORK", "about": "STRING"}),
    "PredictWeights": Kind(
        250,
        {"hypernetwork": "HB_HYPERNETWORK", "model": "MODEL", "clip": "CLIP", "vae": "VAE", "image": "IMAGE", "mask": "MASK",
         "clip_vision": "CLIP_VISION"},
        {"class_word": "", "invert_mask": False},
        {"weights": "HB_WEIGHTS", "report": "STRING"},
    ),
    "FinetuneWeights": Kind(
        720,
        {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "image": "IMAGE", "mask": "MASK", "start": "HB_WEIGHTS"},
        {"class_word": "", "steps": 40, "rank": 4, "learning_rate": 0.0, "seed": 0, "preview": True, "invert_mask": False, "caption": ""},
        {"weights": "HB_WEIGHTS", "report": "STRING", "image": "IMAGE"},
    ),
    "ApplyWeights": Kind(
        210,
        {"model": "MODEL", "clip": "CLIP", "weights": "HB_WEIGHTS"},
        {"name": "subject", "strength_model": 1.0, "strength_clip": 1.0},
        {"MODEL": "MODEL", "CLIP": "CLIP", "HOOKS": "HOOKS"},
    ),
    "LoadInstantAdapter": Kind(130, {}, {"adapter": "miniature"}, {"adapter": "HB_INSTANT", "about": "STRING"}),
    "ReadReferences": Kind(
        250,
        {"adapter": "HB_INSTANT", "model": "MODEL", "clip": "CLIP", "vae": "VAE", "image": "IMAGE", "mask": "MASK",
         "clip_vision": "CLIP_VISION"},
        {"class_word": "", "invert_mask": False},
        {"reading": "HB_READING"},
    ),
    "ApplyInstantSubject": Kind(
        190, {"clip": "CLIP", "reading": "HB_READING"}, {"name": "subject", "alpha": -1.0, "beta": -1.0}, {"CLIP": "CLIP"}
    ),
    "LoadSubject": Kind(300, {}, {"subject": "my-subject.safetensors"}, {"subject": "HB_SUBJECT"}),
}  # fmt: skip

KINDS = {**STOCK, **{f"HybridBooth_{name}": kind for name, kind in OURS.items()}}
