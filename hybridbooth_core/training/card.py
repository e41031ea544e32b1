"""The model card of a trained network: Markdown with the YAML front matter of model hubs."""

from __future__ import annotations

import json
from typing import Any

from .. import __version__
from ..probe.learner import Learner
from ..probe.probe import Probe
from .config import TrainConfig, to_json

SPDX = {"apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-3.0", "unlicense", "openrail"}
"""Licence identifiers that hubs accept; anything else is `other`."""


ABOUT = {
    "probe": "A HybridBooth probe: it predicts {tokens} token embeddings from one image of a subject, and a few gradient steps through the "
    "frozen\nmodel refine them. No weight of the diffusion model changes.",
    "hypernetwork": "A hypernetwork of HyperDreamBooth: it predicts a small set of weights (Lightweight DreamBooth) from one image of a "
    "subject,\nwhich a few steps may refine and which export as a LoRA.",
    "instantbooth": "An adapter of InstantBooth: it reads one or more images of a subject and draws it without any step.",
}
LOADER = {"probe": "Load Probe", "hypernetwork": "Load Hypernetwork", "instantbooth": "Load Instant Adapter"}


def model_card(
    name: str, digest: str, size: int, learner: Learner, config: TrainConfig, step: int, curve: list[dict[str, Any]], hub_model: str = ""
) -> str:
    """The card of a network's file.

    Args:
        name, digest, size: file name, sha256 and bytes. step: of the checkpoint. curve: rows of the training curve.
        hub_model: the base model's id on hubs, "" if it has none.
    """
    c, about = learner.config, ABOUT[learner.kind]
    regressor = c.regressor if isinstance(learner, Probe) else ""
    parameters = sum(p.numel() for p in learner.parameters())
    return f"""---
license: {"other" if regressor == "promptnet" else _hub_licence(c.licence)}
library_name: hybridbooth
pipeline_tag: text-to-image
{f"base_model: {hub_model}" + chr(10) if hub_model else ""}tags:
- hybridbooth
- personalization
- textual-inversion
- comfyui
---

# {name}

{about.format(tokens=getattr(c, "num_tokens", 0))}

| | |
|---|---|
| base model | {_line(c.base_model)} (token embeddings of width {c.width}) |
| network | {regressor or learner.kind}, {parameters / 1e6:.3g} M parameters in total, float16, {size / 1e6:.1f} MB |
| image encoders | {c.clip} and {c.dino} |
| training data | {_line(c.trained_on) or "not stated"} |
| licence of the data | {_line(c.licence) or "not stated"} |
| steps | {step} of {config.steps}, {step * config.batch} samples, seed {config.seed}, {config.dtype} |
| sha256 | `{digest}` |

## Evaluation
{_verdict(curve, step)}

The loss shows that what is predicted helps the frozen model to denoise. It does not measure likeness: try your own subjects before
you rely on it.

## Usage
In ComfyUI with the HybridBooth nodes: put the file into `models/hybridbooth/` and select it in **{LOADER[learner.kind]}**. In Python:

```python
from pathlib import Path
from {type(learner).__module__} import {type(learner).__name__}

network = {type(learner).__name__}.load(Path("{name}"))
print(network.about())
```

## Limits
- It works for subjects like those it was trained on; for others the prediction may show little more than the class.
{_inherited(regressor)}- Images of people: ask for consent. It makes likenesses of faces.
- The licence above comes from your dataset; check it before you share or sell results.

## Training
`hybridbooth train-probe`, version {__version__}, with

```json
{json.dumps(_shareable(config), indent=1)}
```
"""


def _inherited(regressor: str) -> str:
    """A promptnet contains weights of its base model, so that model's licence applies too."""
    if regressor != "promptnet":
        return ""
    return "- It was initialised from half of the base model's UNet, so that model's licence applies to this file as well.\n"


def _verdict(curve: list[dict[str, Any]], step: int) -> str:
    validated = [row for row in curve if "validation" in row and row["step"] <= step]
    if not validated:
        return "The training ran no validation."
    last = validated[-1]
    return (
        f"Denoising loss on held-out noise after {last['step']} steps: {last['validation']:.4f}; with the class noun instead of what is "
        f"predicted: {last['validation_noun']:.4f}."
    )


def _shareable(config: TrainConfig) -> dict[str, Any]:
    """The configuration without paths and settings of one machine."""
    table = to_json(config)
    table = {name: value for name, value in table.items() if name not in ("out", "model", "encoders", "device", "price", "log")}
    table["data"] = {name: value for name, value in table["data"].items() if name not in ("shards", "validation")}
    return table


def _hub_licence(licence: str) -> str:
    """The hub's identifier of the data's licence if all images have the same one and hubs know it, else `other`."""
    name = licence.split(" (")[0].strip().lower()
    return name if name in SPDX and "," not in licence else "other"


def _line(text: str) -> str:
    """Untrusted text as one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "/")
