"""Prepares a training on shards: loads the frozen networks and makes the untrained learner."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..data.shards import CLIP, DINO, LATENTS, Index, read_index
from ..encoders.catalogue import CATALOGUE, CLIP_L
from ..encoders.published import DINO_SIZES, Encoder, find_encoders
from ..errors import UserError
from ..methods.rare_tokens import rare_token
from ..models.diffusers_adapter import DiffusersModel
from ..models.ldm_layout import to_ldm_layout
from ..models.lidb import LiDBSpace, lidb_layers
from ..probe.hypernetwork import Hypernetwork, HypernetworkConfig
from ..probe.instant import InstantBooth, InstantConfig, block_sizes
from ..probe.learner import Learner
from ..probe.probe import Probe, ProbeConfig
from ..probe.regressors import KINDS
from ..probe.untrained import new_probe, promptnet_sizes
from .callbacks import Callbacks
from .config import TrainConfig
from .context import TrainingContext
from .sample_grids import shard_content
from .sources import ShardSource, features_of

MAX_LICENCES = 8  # listed by name


def prepare_training(
    config: TrainConfig, device: torch.device, load_model: Callable[[], DiffusersModel], autoencoder_fingerprint: Callable[[], str]
) -> tuple[TrainingContext, Learner, Callbacks]:
    """The frozen networks and the shards, an untrained learner, and callbacks for sample grids.

    The UNet has the configuration's dtype, the text encoder is float32. The autoencoder is kept only to encode images or for sample
    grids. Encoders are not needed with cached tokens.

    Args:
        load_model: returns the frozen model on `device`, float32. Called after the shards are checked, since it takes a while.
        autoencoder_fingerprint: returns the fingerprint of the model's autoencoder in float32, to compare with cached latents.
    Raises:
        UserError: the shards or the encoders are missing or do not fit the model; and errors of `load_model`.
    """
    if config.data.shards is not None:
        read_index(config.data.shards)
    encoders = None if config.data.cached else _encoders(config, device)
    sides = (encoders[0].network.size, encoders[1].network.size) if encoders else (0, 0)
    reads_latents = config.learner == "probe" and KINDS[config.probe.regressor].reads_latents  # type: ignore[attr-defined]
    source = ShardSource(config.data, config.seed, config.micro_batch, sides, bool(reads_latents))
    readers = [(encoder.id, encoder.network.width) for encoder in encoders] if encoders else _cached_readers(source.index, config)
    model = load_model()
    _check_images(source, model, autoencoder_fingerprint, config)
    origin = provenance(source.index)
    learner = untrained_learner(config, model, readers, origin)
    nn.Module.to(model.unet, config.torch_dtype)  # diffusers' own `to` logs a false warning
    grids = bool(config.log.grid_every)
    if not source.needs_autoencoder and not grids:
        model.coder = NoAutoencoder()
    clip, dino = (encoders[0].network, encoders[1].network) if encoders else (None, None)
    context = TrainingContext(model, clip, dino, source, origin)
    return context, learner, Callbacks(grid_content=partial(shard_content, config, context) if source.needs_autoencoder or grids else None)


class NoAutoencoder:
    """Replaces an autoencoder that is not needed."""

    def encode(self, images: Tensor) -> Tensor:
        raise ValueError("expected latents, found images although no autoencoder is loaded")

    def decode(self, latents: Tensor) -> Tensor:
        raise ValueError("images cannot be decoded, since no autoencoder is loaded; set --log.grid-every")


def _encoders(config: TrainConfig, device: torch.device) -> tuple[Encoder, Encoder]:
    if not config.encoders:
        raise UserError("expected --encoders with the folders of CLIP ViT-L/14 and DINOv2, found none; add it, or use --data.cached")
    return find_encoders(config.encoders, config.dino, device)


def _cached_readers(index: Index, config: TrainConfig) -> list[tuple[str, int]]:
    """Ids and widths of the cached CLIP and DINO tokens, which must be those of the encoders in the configuration."""
    features, readers = features_of(index), []
    for name, id in ((CLIP, CLIP_L.id), (DINO, DINO_SIZES[config.dino])):
        found, width = features[name], CATALOGUE[id].width
        if not isinstance(found, dict) or (found.get("id"), found.get("width")) != (id, width):
            actual = f"{found.get('id')} of width {found.get('width')}" if isinstance(found, dict) else "an unknown encoder"
            raise UserError(
                f"expected cached {name} tokens of {id} of width {width}, found {actual[:160]} in {config.data.shards}; prepare the images "
                "with these encoders, or choose another --dino"
            )
        readers.append((id, width))
    return readers


def _check_images(source: ShardSource, model: DiffusersModel, autoencoder_fingerprint: Callable[[], str], config: TrainConfig) -> None:
    size = source.index.config.get("size")
    if size != model.image_size:
        raise UserError(
            f"{model.name} generates {model.image_size} pixels, but the images in {config.data.shards} have {size}; prepare them with "
            f"--size {model.image_size}"
        )
    if source.latents:
        cached = features_of(source.index)[LATENTS]
        if not isinstance(cached, dict) or cached.get("fingerprint") != autoencoder_fingerprint():
            raise UserError(
                f"the latents in {config.data.shards} were made with another autoencoder than that of {model.name}; prepare the images "
                f"with --model {config.model}"
            )


def untrained_learner(config: TrainConfig, model: DiffusersModel, readers: list[tuple[str, int]], origin: dict[str, str]) -> Learner:
    """The untrained network of a configuration, for a model. `readers`: ids and widths of CLIP and DINO.

    Raises:
        UserError: sizes that do not fit the model.
    """
    if config.learner == "probe":
        return _untrained(config, model, readers, origin)
    (clip, clip_width), (dino, dino_width) = readers
    shared = {
        "width": model.embedding_width, "clip": clip, "clip_width": clip_width, "dino": dino, "dino_width": dino_width,
        "family": model.family, "base_model": model.name, "base_fingerprint": model.fingerprint, **origin,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            if config.learner == "instantbooth":
                a = config.adapter
                made = InstantConfig(**shared, blocks=block_sizes(model.denoiser), heads=a.heads, alpha=a.alpha, beta=a.beta)
                return InstantBooth(made)
            h = config.hypernetwork
            space = LiDBSpace.of(lidb_layers(model, h.targets), *h.subspace)
            sizes = {name: getattr(h, name) for name in ("inner", "layers", "heads", "iterations", "targets", "subspace")}
            token = h.token or rare_token(model.vocabulary)
            return Hypernetwork(HypernetworkConfig(**shared, **sizes, matrices=space.shape[0], token=token))
        except ValueError as error:
            raise UserError(
                f"--{'adapter' if config.learner == 'instantbooth' else 'hypernetwork'}: {error}; choose other sizes"
            ) from error


def _untrained(config: TrainConfig, model: DiffusersModel, readers: list[tuple[str, int]], origin: dict[str, str]) -> Probe:
    """The untrained probe. A promptnet is initialised from the UNet's encoder half, in float32."""
    shape, promptnet = config.probe, config.probe.regressor == "promptnet"
    state = _denoiser(model) if promptnet else None
    sizes = {**promptnet_sizes(state, _heads(model)), **shape.sizes} if state is not None else dict(shape.sizes)
    (clip, clip_width), (dino, dino_width) = readers
    try:
        probe_config = ProbeConfig(
            width=model.embedding_width,
            clip=clip,
            clip_width=clip_width,
            dino=dino,
            dino_width=dino_width,
            regressor=shape.regressor,
            sizes=sizes,
            num_tokens=shape.num_tokens,
            embedding_norm=vocabulary_norm(model),
            family=model.family,
            base_model=model.name,
            base_fingerprint=model.fingerprint,
            trained_on=origin["trained_on"],
            licence=origin["licence"],
        )
        probe = new_probe(probe_config, state, config.seed)
    except ValueError as error:
        raise UserError(f"--probe.sizes do not fit {model.name} ({error}); leave it out, or choose the other regressor") from error
    if promptnet:
        _check_grid(model, len(sizes["multipliers"]))
    return probe


def _denoiser(model: DiffusersModel) -> dict[str, Tensor]:
    try:
        return to_ldm_layout(model.unet.state_dict())
    except ValueError as error:
        raise UserError(f"{model.name} is not a Stable Diffusion 1.5 ({error}); use the resampler, or another --model") from error


def _heads(model: DiffusersModel) -> int:
    heads = {module.heads for module in model.unet.modules() if hasattr(module, "heads")}
    if len(heads) != 1:
        raise UserError(f"expected equally many heads in all attentions of {model.name}, found {sorted(heads)}; use the resampler")
    return heads.pop()


def _check_grid(model: DiffusersModel, levels: int) -> None:
    """UserError unless the latents can be halved between all levels of a promptnet."""
    side = model.unet.config.sample_size
    if not isinstance(side, int) or side % 2 ** (levels - 1):
        raise UserError(f"a promptnet of {levels} levels cannot halve latents of side {side} that often; use the resampler")


def vocabulary_norm(model: DiffusersModel) -> float:
    """The mean norm of the vocabulary's token embeddings, without the start and end tokens."""
    table = model.token_table().float()
    embeddings = torch.ones(len(table), dtype=torch.bool, device=table.device)
    embeddings[[model.tokenizer.start, model.tokenizer.end]] = False
    lengths = table[embeddings].norm(dim=1)
    return round(float(lengths[lengths > 0].mean()), 6)


def provenance(index: Index) -> dict[str, str]:
    """Metadata of a probe about its data: number of images, a hash of the shards, and licences with their counts."""
    digest = hashlib.sha256("".join(shard.sha256 for shard in index.shards).encode()).hexdigest()[:12]
    entries = list(index.licences.items())
    licences = [f"{name} ({count})" for name, count in entries[:MAX_LICENCES]]
    if rest := entries[MAX_LICENCES:]:
        licences.append(f"{len(rest)} others ({sum(count for _, count in rest)})")
    return {"trained_on": f"{index.samples} images (shards {digest})", "licence": ", ".join(licences)}
