"""One process or many: what the trainer needs of accelerate, and the same without it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Processes:
    """Which of how many processes this is. `accelerator` is None for one process alone."""

    device: torch.device
    rank: int = 0
    world: int = 1
    accelerator: Any = None

    @staticmethod
    def alone(device: torch.device) -> Processes:
        """One process, without accelerate."""
        return Processes(device)

    @staticmethod
    def launched(device: str = "") -> Processes:
        """As `accelerate launch` (or nobody) has set it up.

        Args:
            device: "cpu" keeps it there; "" takes what accelerate finds.
        """
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=device == "cpu")
        return Processes(accelerator.device, accelerator.process_index, accelerator.num_processes, accelerator)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module as it is to be called, so that gradients are averaged over processes."""
        return module if self.world == 1 else self.accelerator.prepare(module)

    def no_sync(self, module: nn.Module) -> AbstractContextManager[None]:
        """While open, gradients add up without being exchanged."""
        return nullcontext() if self.world == 1 else self.accelerator.no_sync(module)

    def mean(self, values: Tensor) -> Tensor:
        """Means over the processes."""
        if self.world == 1:
            return values
        return self.accelerator.reduce(values.to(self.device), reduction="mean").cpu()

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            self.accelerator.wait_for_everyone()
