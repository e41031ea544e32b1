"""One process or many: what the trainer needs of accelerate, and the same without it."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..probe.probe import Probe

PATIENCE = timedelta(hours=6)  # the others wait while the first process validates and draws; who dies is noticed by the launcher

log = logging.getLogger("hybridbooth")


@dataclass(frozen=True, eq=False)
class DistributedEnv:
    """Which of how many processes this is. Every process holds the whole probe. `accelerator` is None for one process alone."""

    device: torch.device
    rank: int = 0
    world: int = 1
    accelerator: Any = None

    @staticmethod
    def alone(device: torch.device) -> DistributedEnv:
        """One process, without accelerate."""
        return DistributedEnv(device)

    @staticmethod
    def launched(device: str = "") -> DistributedEnv:
        """As `accelerate launch`, torchrun (or nobody) has set it up.

        Args:
            device: "cpu" keeps it there; "" takes what accelerate finds.
        Raises:
            UserError: accelerate's configuration asks for FSDP.
        """
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs

        if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
            raise UserError("expected plain data parallelism, found FSDP in accelerate's configuration; use docs/accelerate_ddp.yaml")
        # Without a GPU, accelerate would take several processes for so many single ones. Precision is the trainer's own affair.
        cpu = device == "cpu" or ("LOCAL_RANK" in os.environ and not torch.cuda.is_available())
        accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
        world = accelerator.num_processes
        if world == 1 and "MASTER_PORT" in os.environ and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
            log.warning(
                "accelerate launch --cpu starts one process, whatever --num_processes says; for several on CPUs: "
                "accelerate launch --multi_gpu --num_processes 2 ... --device cpu"
            )
        return DistributedEnv(accelerator.device, accelerator.process_index, world, accelerator)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def wrap(self, probe: Probe) -> Probe:
        """The probe as it must be called so that gradients are averaged over the processes."""
        return probe if self.world == 1 else self.accelerator.prepare(probe)

    def adding_up(self, wrapped: Probe, last: bool) -> AbstractContextManager[Any]:
        """While open, gradients add up; only those of the last micro-batch are exchanged."""
        return nullcontext() if last or self.world == 1 else self.accelerator.no_sync(wrapped)

    def mean(self, values: Tensor) -> Tensor:
        """Means over the processes."""
        if self.world == 1:
            return values
        return self.accelerator.reduce(values.to(self.device), reduction="mean").cpu()

    def agree(self, number: int) -> bool:
        """Whether all processes have the same number; all get the same answer."""
        if self.world == 1:
            return True
        found = self.accelerator.gather(torch.tensor([number], device=self.device))
        return bool((found == found[0]).all())

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            self.accelerator.wait_for_everyone()
