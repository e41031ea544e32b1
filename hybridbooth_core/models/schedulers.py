"""diffusers' schedulers under short names, configured for a model's noise schedule."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import UserError
from .noise_schedule import NoiseSchedule

# name: diffusers' class and its settings
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "heun": ("HeunDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "lms": ("LMSDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "dpm++_2m": ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}),
    "dpm++_2m_karras": ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing", "use_karras_sigmas": True}),
    "dpm++_sde": ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing", "algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {"timestep_spacing": "trailing"}),
}


def new_scheduler(name: str, schedule: NoiseSchedule, steps: int) -> Any:
    """A diffusers scheduler with its timesteps set. It expects predicted noise, for any prediction type of the network.

    Raises:
        UserError: the name is unknown.
    """
    if name not in SCHEDULERS:
        raise UserError(f"expected one of the samplers {', '.join(SCHEDULERS)}, found {name[:40]!r}")
    import diffusers

    kind, settings = SCHEDULERS[name]
    scheduler = getattr(diffusers, kind)(
        num_train_timesteps=len(schedule), trained_betas=_betas(schedule), prediction_type="epsilon", **settings
    )
    scheduler.set_timesteps(steps)
    return scheduler


def _betas(schedule: NoiseSchedule) -> list[float]:
    """beta_t = 1 - abar_t / abar_{t-1} (Ho et al. 2020, section 2)."""
    alphas = schedule.alphas_cumprod.double()
    return (1 - alphas / torch.cat([alphas.new_ones(1), alphas[:-1]])).tolist()
