"""The library in one class: load a base model, make subjects, draw images with them.

The command line and the examples of docs/python.md go through this class; the ComfyUI nodes share everything below it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bases import Base, load_base
from .encoders.features import Reference, extract_features, reference
from .errors import UserError
from .files.adapter_weights import AdapterWeights
from .files.images import as_images, to_image
from .files.subject import Subject, check_name
from .methods.artefact import Trained
from .methods.method import Method, OnStep
from .methods.prior_images import Prior
from .methods.registry import find_method, load_artefact, run_method
from .models.adapter import Prompt, check_family, class_embedding
from .models.prompts import split_prompt
from .models.sampling import generate, initial_noise
from .probe.hypernetwork import Hypernetwork
from .probe.instant import InstantBooth
from .probe.probe import Probe
from .probe.reading import Reading
from .refine.personalize import check_probe

if TYPE_CHECKING:
    from PIL import Image

    from .files.images import ImageLike

log = logging.getLogger("hybridbooth")

AUTO = "auto"
MAX_BATCH = 64


class HybridBooth:
    """A base model, its trained networks if there are some, and where encoders are found.

    Attributes:
        base: the base model; `base.model` is its adapter.
        probe: predicts initial embeddings; None where nobody has trained one.
        encoders: folders with CLIP ViT-L/14 and DINOv2 under any names.
        hypernetwork, adapter: of HyperDreamBooth and InstantBooth; None where nobody has trained one.
    """

    def __init__(
        self,
        base: Base,
        probe: Probe | None = None,
        encoders: Sequence[str | Path] = (),
        hypernetwork: Hypernetwork | None = None,
        adapter: InstantBooth | None = None,
    ):
        self.base, self.probe, self.encoders = base, probe, [Path(folder) for folder in encoders]
        self.hypernetwork, self.adapter = hypernetwork, adapter
        self._prior: Prior | None = None

    @classmethod
    def load(
        cls,
        model: str | Path = "miniature",
        *,
        probe: str | Path | Probe | None = None,
        hypernetwork: str | Path | Hypernetwork | None = None,
        adapter: str | Path | InstantBooth | None = None,
        encoders: Sequence[str | Path] = (),
        device: str | None = None,
        dtype: str | None = None,
        comfyui: str | Path | None = None,
    ) -> HybridBooth:
        """Load a base model and what goes with it. Nothing is fetched from the network.

        Args:
            model: "miniature", a diffusers folder, a Stable Diffusion 1.5 checkpoint (`.safetensors`), the id of a hub repository that is
                in the cache, or the name of a checkpoint in `comfyui`.
            probe, hypernetwork, adapter: their files; None takes those that come with the base, if any.
            encoders: folders with CLIP ViT-L/14 and DINOv2, which they read images with for Stable Diffusion 1.5.
            device, dtype: see `load_base`.
            comfyui: a ComfyUI folder, whose checkpoints, encoders and trained networks are found.
        Raises:
            UserError: a file is missing, damaged or of another family.
        """
        base = load_base(model, device=device, dtype=dtype, comfyui=comfyui)
        folders = [Path(folder) for folder in encoders]
        from .bases.comfyui import encoder_folders, find_model

        if comfyui is not None:
            folders += encoder_folders(Path(comfyui))

        def network(given: Any, load: Callable[[Path], Any], default: Callable[[], Any]) -> Any:
            if isinstance(given, str | Path):
                path = Path(given)
                if comfyui is not None and not path.exists():
                    path = find_model(Path(comfyui), "hybridbooth", str(given)) or path
                given = load(path)
            found = default() if given is None else given
            return None if found is None else found.to(base.model.device)

        return cls(
            base,
            network(probe, Probe.load, base.default_probe),
            folders,
            network(hypernetwork, Hypernetwork.load, base.default_hypernetwork),
            network(adapter, InstantBooth.load, base.default_adapter),
        )

    def personalize(
        self,
        images: ImageLike | Sequence[ImageLike],
        class_noun: str = "",
        *,
        mask: ImageLike | Sequence[ImageLike] | None = None,
        method: str = AUTO,
        steps: int | None = None,
        seed: int = 0,
        on_step: OnStep | None = None,
        **options: Any,
    ) -> Subject | AdapterWeights | Reading:
        """Make a subject from one or more images of it.

        Args:
            images: paths, PIL images, arrays or tensors [H, W, C] in 0..1; several must be of one size.
            class_noun: what kind of thing it is, such as "cat"; only "probe_free" finds one itself.
            mask: white (1) on the subject, one for each image; better results, may be left out.
            method: a name of `methods.registry.METHODS`; "auto" takes the best start there is, see `best_method`.
            steps: None takes the method's default for this base.
            seed: of all noise.
            on_step: called with a `Step` (done, steps, loss, current) after every step; may raise to stop, and nothing is changed.
            options: further fields of the method's configuration, such as learning_rate=1e-3 or rank=8.
        Returns:
            A `Subject` (token embeddings); of a method that tunes weights `AdapterWeights`; of InstantBooth a `Reading`. All have
            `save(path)`.
        Raises:
            UserError: an image that cannot be used, a missing class noun, probe or encoder, or an option out of range.
        """
        return self.make(images, class_noun, mask=mask, method=method, steps=steps, seed=seed, on_step=on_step, **options).artefact  # type: ignore[return-value]

    def make(
        self,
        images: ImageLike | Sequence[ImageLike],
        class_noun: str = "",
        *,
        mask: ImageLike | Sequence[ImageLike] | None = None,
        method: str = AUTO,
        steps: int | None = None,
        seed: int = 0,
        on_step: OnStep | None = None,
        on_class_images: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> Trained:
        """Like `personalize`, and returns all that is known: the artefact, a report, the losses.

        Args:
            on_class_images: called with (images drawn, images in all) while a method draws images of the class.
        """
        found = self.best_method() if method == AUTO else find_method(method)
        ref = self.reference(images, mask)
        found.configuration(self.base.family, **options)  # refused before anything is computed
        if class_noun.strip():
            class_embedding(self.base.model, class_noun)
        elif "class_noun" in found.needs:
            raise UserError(f"the method {found.name} needs a class noun such as cat or backpack; say what kind of thing the subject is")
        inputs: dict[str, Any] = {}
        for name in ("probe", "hypernetwork", "adapter"):
            if name in found.needs:
                inputs |= self._network(name, ref)
        if "clip_space" in found.needs:
            inputs["clip_space"] = self.base.clip_space(self.encoders)
        if "prior_images" in found.needs:
            inputs["prior"] = self._class_images(found, class_noun, options, on_class_images)
        return run_method(found.name, self.base.model, ref, class_noun, steps=steps, seed=seed, on_step=on_step, **inputs, **options)

    def best_method(self) -> Method:
        """The best start there is: a probe's prediction, else one found by CLIP if its file is there, else the class noun."""
        if self.probe is not None:
            return find_method("hybridbooth")
        return find_method("from_noun" if self.base.clip_space(self.encoders) is None else "probe_free")

    def reference(self, images: ImageLike | Sequence[ImageLike], mask: ImageLike | Sequence[ImageLike] | None = None) -> Reference:
        """Images and masks, read and checked; UserError says what does not fit."""
        pixels = as_images(images)
        self.base.check_images(pixels)
        ref = reference(pixels, None if mask is None else as_images(mask, "L")[..., 0])
        for notice in ref.notices:
            log.warning("%s", notice)
        return ref

    def _network(self, name: str, ref: Reference) -> dict[str, Any]:
        """A trained network by its name, and the features that it reads."""
        network, model = getattr(self, name), self.base.model
        if network is None:
            raise UserError(
                f"{self.base.title} comes without a trained {name}; give one with --{name} (in Python: {name}=...), or choose the method "
                "probe_free or from_noun, which need none"
            )
        if isinstance(network, Probe):
            check_probe(model, network)
        else:
            check_family(model, f"the {name}", network.config.width, network.config.family, network.config.base_model)
        clip, dino = (encoder.to(model.device) for encoder in self.base.encoders(network.config, self.encoders, device=model.device))  # type: ignore[attr-defined]
        return {name: network, "features": extract_features(model, clip, dino, ref).to(model.device)}

    def _class_images(
        self, method: Method, class_noun: str, options: Mapping[str, Any], on_images: Callable[[int, int], None] | None
    ) -> Prior:
        """The class images that the method will ask for, drawn now, so that they can be watched; they are kept for the next subject."""
        if self._prior is None:
            how = self.base.class_images
            self._prior = Prior(self.base.model, steps=how.steps, guidance=how.guidance)
        config = method.configuration(self.base.family, **options)
        if config.prior_weight > 0:
            self._prior.latents(class_noun, config.prior_images, on_images)
        return self._prior

    def generate(
        self,
        prompt: str,
        *,
        subjects: Mapping[str, Subject | AdapterWeights | Reading | str | Path] | None = None,
        strength: float = 1.0,
        delay: float = 0.0,
        negative: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        size: int | None = None,
        seed: int = 0,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Image.Image:
        """Draw a prompt that has subjects in it.

        Args:
            prompt: `<name>` stands for the subject of that name.
            subjects: by name; at most one may be adapter weights.
            strength: of all subjects: 0 is the class noun, 1 the subject, up to 2 exaggerates.
            delay: share of the steps, at their start, in which the class nouns stand for the subjects.
            negative: what the image should not show.
            steps, guidance, sampler: None takes the base's defaults; `sampler` is a name of `models.schedulers.SCHEDULERS`.
            size: pixels a side; None takes the base's own.
            seed: of the noise.
            on_step: called with (steps done, steps) after each step; may raise to stop.
        Raises:
            UserError: a subject that is missing or made for another base, or a number out of range.
        """
        return self.generate_batch(
            prompt, 1, subjects=subjects, strength=strength, delay=delay, negative=negative, steps=steps, guidance=guidance,
            sampler=sampler, size=size, seed=seed, on_step=on_step,
        )[0]  # fmt: skip

    def generate_batch(
        self,
        prompt: str,
        count: int,
        *,
        subjects: Mapping[str, Subject | AdapterWeights | Reading | str | Path] | None = None,
        strength: float = 1.0,
        delay: float = 0.0,
        negative: str = "",
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        size: int | None = None,
        seed: int = 0,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image]:
        """Like `generate`, `count` images (1 to 64) at once. Image i depends on the seed and on i alone."""
        defaults, model = self.base.sampling, self.base.model
        steps, guidance = defaults.steps if steps is None else steps, defaults.guidance if guidance is None else guidance
        if not 1 <= steps <= 1000:
            raise UserError(f"expected 1 to 1000 sampling steps, found {steps}")
        if not 0 <= guidance <= 30:
            raise UserError(f"expected a guidance from 0 to 30, found {guidance}; {defaults.guidance:g} is usual here")
        if not 0 <= delay <= 1:
            raise UserError(f"expected a delay from 0 to 1, a share of the steps, found {delay}; 0.2 is usual")
        if not 1 <= count <= MAX_BATCH:
            raise UserError(f"expected a batch of 1 to {MAX_BATCH} images, found {count}")
        if delay and not subjects:
            raise UserError("there is no subject that the delay could hold back; give a subject, or set the delay to 0")
        shape = model.latent_shape(size)
        artefacts = {check_name(name): self._artefact(subject) for name, subject in (subjects or {}).items()}
        tuned = [name for name, artefact in artefacts.items() if isinstance(artefact, AdapterWeights)]
        if len(tuned) > 1:
            raise UserError(
                f"{' and '.join(tuned)} change the model's weights, which only one subject of an image can; make the others of words"
            )
        start = initial_noise(count, shape, seed)
        with ExitStack() as stack:
            early = None
            if delay:
                nouns: dict[str, Prompt] = {name: list(_noun_of(artefact, model)) for name, artefact in artefacts.items()}
                early = [split_prompt(prompt, nouns)] * len(start)
            pieces = {name: stack.enter_context(artefact.applied(model, strength)) for name, artefact in artefacts.items()}
            prompts = [split_prompt(prompt, pieces)] * len(start)
            images = generate(
                model, prompts, start, steps, guidance, [negative] if negative.strip() else (), early, delay, on_step,
                defaults.sampler if sampler is None else sampler, seed,
            )  # fmt: skip
        return [to_image(image) for image in images]

    def _artefact(self, given: Subject | AdapterWeights | Reading | str | Path) -> Subject | AdapterWeights | Reading:
        artefact = load_artefact(Path(given)) if isinstance(given, str | Path) else given
        if isinstance(artefact, Reading) and artefact.adapter is None and self.adapter is not None:
            return artefact.with_adapter(self.adapter)
        return artefact

    def save(self, artefact: Subject | AdapterWeights | Reading, path: str | Path, overwrite: bool = False) -> None:
        """Write a file as the programs of this base's family read it.

        A subject is an embedding, a LoRA has kohya's keys; a whole tuned model becomes a stock checkpoint (`NAME.safetensors`) or a
        diffusers folder (a name without an ending).

        Raises:
            UserError: it exists and `overwrite` is off, or the place cannot be written.
        """
        self.base.write(artefact, Path(path), overwrite)

    def report(
        self, subject: Subject, images: ImageLike | Sequence[ImageLike], mask: ImageLike | Sequence[ImageLike] | None = None
    ) -> Image.Image:
        """One image about a subject: its reference, its mask, where its tokens attend, and its validation loss."""
        from .report.subject_report import subject_report

        return to_image(subject_report(self.base.model, self.reference(images, mask), subject).image)


def _noun_of(artefact: Subject | AdapterWeights | Reading, model: Any) -> Prompt:
    with artefact.applied(model, 0.0) as noun:
        return noun
