"""Every way to make a subject, called the same way.

| name                  | method                                                             | makes                           |
|-----------------------|--------------------------------------------------------------------|---------------------------------|
| `hybridbooth`         | a probe's prediction, refined by a few steps (arXiv 2410.08192)    | `Subject`                       |
| `encoder_only`        | the probe's prediction alone (as ELITE and FastComposer do)        | `Subject`                       |
| `polished`            | `hybridbooth`, then a small LoRA of the cross-attentions           | `AdapterWeights`, polished      |
| `probe_free`          | a start found by CLIP, then steps on the embeddings                | `Subject`                       |
| `from_noun`           | the class noun, then steps on the embeddings                       | `Subject`                       |
| `textual_inversion`   | one new token (Gal et al. 2022); `textual_inversion_5`: five       | `Subject`                       |
| `lidb`                | DreamBooth in 30,000 numbers (Ruiz et al. 2023b)                   | `AdapterWeights`, lidb          |
| `hypernetwork`        | a hypernetwork's prediction alone (Ruiz et al. 2023b)              | `AdapterWeights`, lidb          |
| `hyperdreambooth`     | the same, then a few steps of a LoRA beside it                     | `AdapterWeights`, lora          |
| `instantbooth`        | a concept token and adapter layers (Shi et al. 2023)               | `Reading`                       |
| `dreambooth`          | the whole denoiser and a rare token (Ruiz et al. 2023)             | `AdapterWeights`, full          |
| `dreambooth_lora`     | the same as a LoRA (Hu et al. 2021)                                | `AdapterWeights`, lora          |
| `custom_diffusion`    | K, V of the cross-attentions and a token (Kumari et al. 2023)      | `AdapterWeights`, custom_diffusion |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..encoders.clip_space import ClipSpace
from ..encoders.features import Reference
from ..errors import UserError
from ..files.adapter_weights import FORMAT as TUNED
from ..files.adapter_weights import AdapterWeights
from ..files.safetensors import declared_format
from ..files.subject import Subject
from ..models.adapter import TrainableModel
from ..probe.hypernetwork import Hypernetwork
from ..probe.instant import InstantBooth
from ..probe.probe import Features, Probe
from ..probe.reading import FORMAT as READING
from ..probe.reading import Reading

# Importing a method's file registers it; help texts list them in this order.
# isort: off
from . import hybridbooth  # noqa: F401
from . import encoder_only  # noqa: F401
from . import polished  # noqa: F401
from . import probe_free  # noqa: F401
from . import from_noun  # noqa: F401
from . import textual_inversion  # noqa: F401
from . import dreambooth  # noqa: F401
from . import custom_diffusion  # noqa: F401
from . import hyperdreambooth  # noqa: F401
from . import instantbooth  # noqa: F401

# isort: on
from .artefact import Trained
from .method import METHODS, Inputs, Method, OnStep
from .prior_images import Prior

ALIASES = {"regression": "encoder_only"}  # of 0.1


def find_method(name: str) -> Method:
    """The method of this name, or of its old one; UserError names the methods that there are."""
    found = METHODS.get(ALIASES.get(name, name))
    if found is None:
        raise UserError(f"expected a method out of {', '.join(METHODS)}, found {name[:80]!r}")
    return found


def run_method(
    name: str,
    model: TrainableModel,
    ref: Reference,
    class_noun: str = "",
    *,
    steps: int | None = None,
    keep: Sequence[int] = (),
    rate: float | None = None,
    seed: int = 0,
    probe: Probe | None = None,
    features: Features | None = None,
    clip_space: ClipSpace | None = None,
    prior: Prior | None = None,
    hypernetwork: Hypernetwork | None = None,
    adapter: InstantBooth | None = None,
    on_step: OnStep | None = None,
    **options: Any,
) -> Trained:
    """Make a subject by the method of this name.

    Args:
        steps, rate: None takes the defaults of the method for the model's family; `rate` is the learning rate, or the step size of a
            method that refines.
        keep: numbers of steps after which an artefact is kept too, each the same as a run of that many steps gives. A method that trains
            keeps them from one run; one that refines runs once for each, since it keeps its best step.
        probe, features, clip_space, prior, hypernetwork, adapter: see `Inputs`.
        on_step: called after every step; may raise to stop, and the model is as it was.
        options: further fields of the method's configuration (`METHODS[name].options`), such as batch=8, rank=8 or prior_images=50.
    Raises:
        UserError: no such method, an option that it does not have, a missing input, or what the method itself raises.
    """
    found = find_method(name)
    given = dict(options)
    if steps is not None:
        given["steps"] = steps
    if found.rate is None and (rate is not None or keep):
        raise UserError(f"the method {found.name} has no steps and no learning rate; leave both out")
    if rate is not None and found.rate is not None:
        given[found.rate] = rate
    if "seed" in found.fields:
        given["seed"] = seed
    if "keep" in found.fields:
        given["keep"] = tuple(keep)
    config = found.configuration(model.family, **given)
    inputs = Inputs(model, ref, class_noun, probe, features, clip_space, prior, hypernetwork, adapter)
    if not keep or "keep" in found.fields:
        return found(inputs, config, on_step)
    most = 1000 if config.steps is None else config.steps  # None: the image decides
    if not all(0 <= count <= most for count in keep):
        raise UserError(f"expected numbers of steps to keep from 0 to {most}, found {', '.join(map(str, keep))}")
    shorter = {count: found(inputs, replace(config, steps=count)).artefact for count in keep if count != config.steps}
    whole = found(inputs, config, on_step)
    return replace(whole, artefacts={**shorter, **whole.artefacts})


def load_artefact(path: Path, width: int | None = None) -> Subject | AdapterWeights | Reading:
    """Read a subject's file, whatever method made it: known by its content, never by its name.

    Args:
        width: d of the model it is for; embeddings of another width are refused.
    Raises:
        UserError: the file is damaged, of another kind, or of another width.
    """
    kind = declared_format(path)
    if kind == READING:
        return Reading.load(path, width)
    return AdapterWeights.load(path, width) if kind == TUNED else Subject.load(path, width)
