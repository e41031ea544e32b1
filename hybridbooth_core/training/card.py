"""The model card of a probe: what a stranger must know before using it. Markdown with the front matter that model hubs read."""

from __future__ import annotations

import json
from typing import Any

from .. import __version__
from ..probe.probe import Probe
from .config import TrainConfig, to_json

SPDX = {"apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-3.0", "unlicense", "openrail"}
"""Names that hubs know as licences; anything else is `other` there."""


def model_card(
    name: str, digest: str, size: int, probe: Probe, config: TrainConfig, step: int, curve: list[dict[str, Any]], hub_model: str = ""
) -> str:
    """The card of the file `name` with this sha256 and so many bytes; `hub_model`: the base model's id on hubs, "" if it has none."""
    c = probe.config
    parameters = sum(p.numel() for p in probe.parameters())
    return f"""---
license: {"other" if c.regressor == "promptnet" else _hub_licence(c.licence)}
library_name: hybridbooth
pipeline_tag: text-to-image
{f"base_model: {hub_model}" + chr(10) if hub_model else ""}tags:
- hybridbooth
- personalization
- textual-inversion
- comfyui
---

# {name}

A HybridBooth probe: it predicts {c.num_tokens} token embeddings from one image of a subject, and a few gradient steps through the frozen
model refine them. No weight of the diffusion model changes.

| | |
|---|---|
| for | {_line(c.base_model)} (words of width {c.width}) |
| regressor | {c.regressor}, {parameters / 1e6:.3g} M parameters in all, float16, {size / 1e6:.1f} MB |
| reads images with | {c.clip} and {c.dino} |
| trained on | {_line(c.trained_on) or "not said"} |
| licence of that data | {_line(c.licence) or "not said"} |
| steps | {step} of {config.steps}, {step * config.batch} samples, seed {config.seed}, {config.dtype} |
| sha256 | `{digest}` |

## How good it is
{_verdict(curve, step)}

This says that the words help the frozen model to denoise; it says nothing of how alike a subject looks. Look at images of subjects of
your own before you rely on it.

## Use it
In ComfyUI with the HybridBooth nodes: put the file into `models/hybridbooth/` and choose it in **Load Probe**. In Python:

```python
from pathlib import Path
from hybridbooth_core.probe import Probe

probe = Probe.load(Path("{name}"))
print(probe.about())
```

## Limits
- It knows subjects like those it was trained on; of others its guess may show the class and little more.
{_inherited(c.regressor)}- Images of people: ask them. What a probe makes of a face is a likeness.
- The licence of the images above is what whoever prepared them said; check it before you share or sell what you make.

## How it was made
`hybridbooth train-probe`, version {__version__}, with

```json
{json.dumps(_shareable(config), indent=1)}
```
"""


def _inherited(regressor: str) -> str:
    """What binds a probe beside its data: a promptnet holds weights of the model that it is for."""
    if regressor != "promptnet":
        return ""
    return "- It began as a copy of half of the base model's denoiser, so that model's licence holds for this file as well.\n"


def _verdict(curve: list[dict[str, Any]], step: int) -> str:
    judged = [row for row in curve if "validation" in row and row["step"] <= step]
    if not judged:
        return "No validation was made."
    last = judged[-1]
    return (
        f"Denoising loss on held-out noise after {last['step']} steps: {last['validation']:.4f}; with the class noun in the words' place: "
        f"{last['validation_noun']:.4f}."
    )


def _shareable(config: TrainConfig) -> dict[str, Any]:
    """The configuration without the places of one machine."""
    table = to_json(config)
    table = {name: value for name, value in table.items() if name not in ("out", "model", "encoders", "device", "price", "log")}
    table["data"] = {name: value for name, value in table["data"].items() if name not in ("shards", "validation")}
    return table


def _hub_licence(licence: str) -> str:
    """The data's licence by a hub's name for it, if all images have one and the same that hubs know."""
    name = licence.split(" (")[0].strip().lower()
    return name if name in SPDX and "," not in licence else "other"


def _line(text: str) -> str:
    """Text of a stranger as one cell of a table."""
    return " ".join(text.split()).replace("|", "/")
