"""`hybridbooth personalize --method probe_free`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import UserError
from . import methods

if TYPE_CHECKING:
    from ..encoders.features import Reference
    from ..miniature.bundle import Miniature
    from ..refine.personalize import Personalization


def personalized(options: argparse.Namespace, world: Miniature, ref: Reference) -> tuple[Personalization, str]:
    """The subject, and what to tell of it: the class noun too, which may have been retrieved.

    Raises:
        UserError: an option of another method, or what `personalize_without_probe` raises.
    """
    from tqdm import tqdm

    from ..probe_free.inversion import InversionConfig
    from ..probe_free.refining import REFINING
    from ..probe_free.start import StartConfig, personalize_without_probe

    chosen = methods.chosen_options(options)
    words, inversion = chosen.pop("num_tokens", StartConfig.num_tokens), chosen.pop("inversion_steps", InversionConfig.steps)
    if chosen:
        raise UserError(f"the method probe_free has no --{next(iter(chosen)).replace('_', '-')}; leave it out, or choose another --method")
    config = StartConfig(num_tokens=words, inversion=replace(InversionConfig(), steps=inversion))
    steps = methods.steps_of(options)
    step_size = REFINING.step_size if options.step_size is None else options.step_size
    refining = replace(REFINING, steps=steps, step_size=step_size, seed=options.seed)
    with tqdm(total=steps, desc="refining", disable=steps == 0) as bar:

        def on_step(done: int, total: int, loss: float) -> None:
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}")

        made, start = personalize_without_probe(world.model, world.space, ref, options.class_noun or "", config, refining, on_step)
    return made, f"{start.report()}\n{made.report()}"
