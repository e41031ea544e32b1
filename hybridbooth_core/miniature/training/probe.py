"""Trains the probe: from one picture of a creature, words that make the frozen model draw it in another scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...diffusers_model import DiffusersModel, ImageCoder
from ...diffusion_model import AttentionTap, Prompt
from ...features import FeatureEncoder, Reference, extract_features, square_crops
from ...ldm_layout import to_ldm_layout
from ...losses import mask_regularisation
from ...probe import Features, Probe, ProbeConfig
from ...refine import TEMPLATES
from ...timesteps import stratified_timesteps
from ..bundle import CLIP_ID, DINO_ID
from ..captions import mask_latent_weight, scene_prompt
from ..evaluate import EVALUATION_SCENES, evaluate, reference_of
from ..nets import Judge
from ..render import SIZE, render
from ..world import KINDS, Scenes, creatures, split_numbers
from ..world_model import LATENT_SHAPE, WIDTH
from .loop import Schedule, train
from .pictures import choose

SIZES = {
    "promptnet": {
        "channels": 64,
        "multipliers": [1, 2],
        "depth": 1,
        "heads": 4,
        "attention_levels": 2,
        "latent_channels": 16,
        "pooled": 32,
    },
    "resampler": {"layers": 3, "heads": 4, "inner": 192},  # about as many parameters as that promptnet
}
MASKED = 0.8  # share of references that come with a mask
NEUTRAL = 0.1  # share of prompts that say nothing of the scene
TIMES = (0.35, 1.0)  # at low noise the picture itself shows who it is, and the words learn nothing
MASK_WEIGHT = 0.02
NORM_WEIGHT = 1e-3
RESIDUAL_STEP, WORDS_STEP, LEARNED_STEP = 3e-4, 0.02, 0.5  # chosen on tune creatures by benchmarks/leads.py


@dataclass(frozen=True)
class Variant:
    """What may differ from the shipped probe, for ablations."""

    regressor: str = "promptnet"
    words: int = 5
    mask_weight: float = MASK_WEIGHT


def class_embeddings(model: DiffusersModel) -> Tensor:
    """The words of KINDS, [4, d]."""
    return torch.cat([model.word_embeddings(kind) for kind in KINDS])


def new_probe(model: DiffusersModel, clip: FeatureEncoder, dino: FeatureEncoder, variant: Variant = Variant()) -> Probe:
    """An untrained probe; a promptnet starts from the model's own encoder half."""
    table = model.text_table()
    config = ProbeConfig(
        width=WIDTH,
        clip=CLIP_ID,
        clip_width=clip.width,
        dino=DINO_ID,
        dino_width=dino.width,
        regressor=variant.regressor,
        sizes=SIZES[variant.regressor],
        words=variant.words,
        word_norm=round(table[2:].norm(dim=1).mean().item(), 6),
        residual_step=RESIDUAL_STEP,
        words_step=WORDS_STEP,
        learned_step=LEARNED_STEP,
        base_model=model.name,
        base_fingerprint=model.fingerprint,
        trained_on="train creatures of the miniature world",
        licence="Apache-2.0",
    )
    probe = Probe(config)
    if variant.regressor == "promptnet":
        probe.regressor.load_denoiser(to_ldm_layout(model.unet.state_dict()))  # type: ignore[operator]
    return probe


def references(pictures: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
    """What the encoders see, [B, 64, 64, 3]: most rows cropped around their mask, the others whole."""
    masked = torch.rand(len(pictures), generator=generator) < MASKED
    crops = square_crops(pictures, None, SIZE).clone()
    crops[masked] = square_crops(pictures[masked], masks[masked], SIZE) if bool(masked.any()) else crops[masked]
    return crops


def _prompt(where: Scenes, row: int, words: Tensor, generator: torch.Generator) -> Prompt:
    if torch.rand((), generator=generator) < NEUTRAL:
        return [*TEMPLATES[int(torch.randint(len(TEMPLATES), (), generator=generator))], words]
    return scene_prompt(where, row, [words], keep=0.9, generator=generator)


@torch.no_grad()
def probe_words(
    probe: Probe, model: DiffusersModel, clip: FeatureEncoder, dino: FeatureEncoder, refs: list[Reference], nouns: Tensor
) -> Tensor:
    """The probe's guesses [N, n, d] for N references of one picture each, with their class nouns' embeddings [N, d]."""
    features = [extract_features(model, clip, dino, ref) for ref in refs]
    return torch.cat([probe(f, noun) for f, noun in zip(features, nouns, strict=True)])


def train_probe(
    schedule: Schedule,
    folder: Path,
    model: DiffusersModel,
    autoencoder: ImageCoder,
    clip: FeatureEncoder,
    dino: FeatureEncoder,
    judge: Judge,
    seed: int = 0,
    variant: Variant = Variant(),
) -> Probe:
    """Cross-paired: the reference shows the creature in one scene, the target in another, and the prompt names the target's scene.

    So the words can carry nothing of the reference's scene. Denoising loss as in `base`, plus mask regularisation and a small
    penalty on long words.
    """
    torch.manual_seed(seed + 20)
    probe = new_probe(model, clip, dino, variant)
    nouns = class_embeddings(model)

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        who, where = choose(generator, schedule.batch, views=2)
        pictures, masks = render(who, where)
        crops = references(pictures[0::2], masks[0::2], generator)
        with torch.no_grad():
            features = Features(clip(crops), dino(crops), autoencoder.encode(crops))
            latents = autoencoder.encode(pictures[1::2])
        words = probe(features, nouns[who.kind[0::2]])
        noise = torch.randn(latents.shape, generator=generator)
        t = stratified_timesteps(len(latents), *TIMES, len(model.schedule), generator)
        encoded = model.encode_prompts([_prompt(where, 2 * row + 1, words[row], generator) for row in range(len(words))])
        tap = AttentionTap(encoded.columns)
        output = model.network_output(model.schedule.add_noise(latents, noise, t), t, encoded.context, tap)
        weight = mask_latent_weight(masks[1::2], LATENT_SHAPE[1], inside=8.0)
        loss = ((output - model.schedule.velocity(latents, noise, t)) ** 2 * weight).mean() / weight.mean()
        long = (words.norm(dim=-1) / probe.config.word_norm) ** 2
        return loss + variant.mask_weight * mask_regularisation(tap.maps, masks[1::2]) + NORM_WEIGHT * long.mean()

    def check() -> dict[str, float]:
        who = creatures(split_numbers("tune", 24))
        words = probe_words(probe, model, clip, dino, [reference_of(who, row) for row in range(len(who))], nouns[who.kind])
        scores = evaluate(model, judge, who, list(words), EVALUATION_SCENES[:4])
        norm = (words.norm(dim=-1) / probe.config.word_norm).mean().item()
        return {"identity": scores.identity.mean().item(), "prompt": scores.prompt.mean().item(), "norm": norm}

    train("probe", {"probe": probe}, loss_of, schedule, folder, seed, check)
    return probe
