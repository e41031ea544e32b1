"""One or several processes: the parts of accelerate that the trainer needs, and the same without it."""

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
from ..probe.learner import Learner

TIMEOUT = timedelta(hours=6)  # the other processes wait while the first one validates; the launcher notices processes that die

log = logging.getLogger("hybridbooth")


@dataclass(frozen=True, eq=False)
class DistributedEnv:
    """Rank and number of processes. Every process holds the whole learner. `accelerator` is None for a single process."""

    device: torch.device
    rank: int = 0
    world: int = 1
    accelerator: Any = None

    @staticmethod
    def alone(device: torch.device) -> DistributedEnv:
        """A single process, without accelerate."""
        return DistributedEnv(device)

    @staticmethod
    def launched(device: str = "") -> DistributedEnv:
        """The environment of `accelerate launch` or torchrun, if any.

        Args:
            device: "cpu" forces the CPU; "" takes the device that accelerate chooses.
        Raises:
            UserError: accelerate's configuration asks for FSDP.
        """
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs

        if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
            raise UserError("expected plain data parallelism, found FSDP in accelerate's configuration; use docs/accelerate_ddp.yaml")
        # Without a GPU accelerate does not recognise several processes unless `cpu` is set. The trainer handles dtypes itself.
        cpu = device == "cpu" or ("LOCAL_RANK" in os.environ and not torch.cuda.is_available())
        accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT)])
        world = accelerator.num_processes
        if world == 1 and "MASTER_PORT" in os.environ and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
            log.warning(
                "accelerate launch --cpu ignores --num_processes and starts one process; for several on CPUs use: "
                "accelerate launch --multi_gpu --num_processes 2 ... --device cpu"
            )
        return DistributedEnv(accelerator.device, accelerator.process_index, world, accelerator)

    @property
    def main(self) -> bool:
        """True for the process that writes files."""
        return self.rank == 0

    def wrap(self, learner: Learner) -> Learner:
        """The learner, wrapped so that its gradients are averaged over the processes."""
        return learner if self.world == 1 else self.accelerator.prepare(learner)

    def accumulate(self, wrapped: Learner, last: bool) -> AbstractContextManager[Any]:
        """Context for the backward pass of a micro-batch: gradients are exchanged only after the last one."""
        return nullcontext() if last or self.world == 1 else self.accelerator.no_sync(wrapped)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, on the CPU."""
        if self.world == 1:
            return values
        return self.accelerator.reduce(values.to(self.device), reduction="mean").cpu()

    def agree(self, number: int) -> bool:
        """Whether all processes have the same number. All get the same answer."""
        if self.world == 1:
            return True
        found = self.accelerator.gather(torch.tensor([number], device=self.device))
        return bool((found == found[0]).all())

    def wait(self) -> None:
        """Returns when all processes have called it."""
        if self.world > 1:
            self.accelerator.wait_for_everyone()
