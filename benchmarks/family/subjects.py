"""A creature of the bench, and how it is personalised: by the registry's methods, with the class noun as one more."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from hybridbooth_core.encoders.features import Reference, extract_features
from hybridbooth_core.methods.artefact import Artefact
from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.methods.registry import METHODS, run_method
from hybridbooth_core.miniature.bundle import WEIGHTS, Miniature, load_adapter, load_hypernetwork
from hybridbooth_core.miniature.evaluate import class_nouns, reference_of
from hybridbooth_core.miniature.world import Creatures, creatures, split_numbers
from hybridbooth_core.models.adapter import Prompt, TrainableModel
from hybridbooth_core.probe.hypernetwork import Hypernetwork
from hybridbooth_core.probe.instant import InstantBooth
from hybridbooth_core.refine.config import RefineConfig

from .plan import Plan, needs, refines

FILES = {"adapter": "instantbooth"}
"""Files of the miniature that have another name than the need."""


@dataclass(frozen=True)
class NounArtefact:
    """The class noun as if it were a subject: the floor of every comparison. It takes no bytes."""

    noun: str

    def save(self, path: Path, overwrite: bool = False) -> None:
        """Nothing to write."""

    @contextmanager
    def applied(self, model: TrainableModel, strength: float = 1.0) -> Iterator[Prompt]:
        yield [self.noun]


@dataclass(frozen=True, eq=False)
class Client:
    """What a user brings: one creature, its one image with mask, its class noun."""

    who: Creatures  # a batch of one
    ref: Reference
    noun: str


def client(split: str, number: int) -> Client:
    who = creatures(split_numbers(split, 1, number))
    return Client(who, reference_of(who, 0), class_nouns(who)[0])


def personalised(
    world: Miniature, method: str, someone: Client, keep: tuple[int, ...], rate: float | None, plan: Plan, prior: Prior | None
) -> dict[int, Artefact]:
    """The artefacts after each of `keep` steps (0 for what takes none), from the raw image on: encoders are part of the work."""
    if method == "class_noun":
        return {0: NounArtefact(someone.noun)}
    needed = needs(method)
    reads = {"probe", "hypernetwork", "adapter"} & set(needed)
    features = extract_features(world.model, world.clip, world.dino, someone.ref) if reads else None
    trained = run_method(
        method,
        world.model,
        someone.ref,
        someone.noun,
        steps=max(keep) if METHODS[method].rate else None,
        keep=[count for count in keep if count],
        rate=rate,
        seed=plan.training_seed,
        probe=world.probe if "probe" in needed else None,
        features=features,
        hypernetwork=_hypernetwork() if "hypernetwork" in needed else None,
        adapter=_adapter() if "adapter" in needed else None,
        clip_space=world.space if "clip_space" in needed else None,
        prior=prior if "prior_images" in needed else None,
        **plan.options(method),
    )
    return {count: trained.artefacts[count] for count in keep}


@cache
def _hypernetwork() -> Hypernetwork:
    return load_hypernetwork()


@cache
def _adapter() -> InstantBooth:
    return load_adapter()


def shipped_mode() -> str:
    """The mode in which a probe's prediction is refined by default."""
    return RefineConfig().resolved.mode


def inputs_digest(method: str, folder: Path = WEIGHTS) -> str:
    """12 hex digits over the weights that a method's units depend on, and over refine's defaults for a method that refines.

    A better probe makes the probe's methods stale, and nothing else.
    """
    extra = [FILES.get(name, name) for name in ("probe", "hypernetwork", "adapter", "clip_space") if name in needs(method)]
    return weights_digest(folder, extra, refines(method))


def weights_digest(folder: Path = WEIGHTS, extra: Sequence[str] = (), with_defaults: bool = False) -> str:
    """12 hex digits over the base and all readers, over `extra` files, and over refine's defaults if asked."""
    digest = hashlib.sha256((str(sorted(asdict(RefineConfig()).items())) if with_defaults else "").encode())
    for name in ("base", "autoencoder", "readers", *extra):
        digest.update((folder / f"{name}.safetensors").read_bytes())
    return digest.hexdigest()[:12]
