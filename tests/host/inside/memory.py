"""The estimate of what a step takes, against the bytes that PyTorch hands out for one.

Run in ComfyUI's own Python by `test_sd15` with the smallest checkpoint's path; prints pairs of estimated and counted bytes. The network at
four resolutions has Stable Diffusion 1.5's layout at a fifth of its width.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

path = Path(sys.argv[1])

import inside  # noqa: E402

inside.start()

import comfy.model_patcher  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models  # noqa: E402
import torch  # noqa: E402
from pack.hybridbooth_core.models.adapter import AttentionCapture  # noqa: E402
from pack.hybridbooth_core.models.memory import MemoryPlan  # noqa: E402
from pack.nodes.host.memory import pass_memory, text_memory  # noqa: E402
from pack.nodes.host.model import HostModel, host_model  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

ALLOCATOR = torch.device("cuda")  # whose use is what PyTorch hands out; the estimate for the CPU holds more


def narrow() -> comfy.model_patcher.ModelPatcher:
    config = comfy.supported_models.SD15({
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 64, "channel_mult": [1, 2, 4, 4],
        "num_res_blocks": [2, 2, 2, 2], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "context_dim": 768, "num_heads": 8,
        "use_spatial_transformer": True, "legacy": False, "use_linear_in_transformer": False, "use_temporal_attention": False,
        "adm_in_channels": None,
    })  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device="cpu")
    for parameter in model.parameters():
        parameter.data.normal_(std=0.02)
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def counted(work: Callable[[], object]) -> int:
    """The highest number of bytes handed out at once during some work, in its second run."""
    work()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = profiler.profiler.kineto_results.events()
    live = highest = 0
    for _, size in sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"):
        live += size
        highest = max(highest, live)
    return highest


def step(host: HostModel, plan: MemoryPlan) -> None:
    rows, side = plan.batch_size, plan.side // 8
    context = torch.randn(rows, 77, 768, requires_grad=True)
    capture = AttentionCapture(torch.arange(4, 9).expand(rows, -1))
    with torch.enable_grad(), host.use_plan(plan):
        noise = host.predict_noise(torch.randn(rows, 4, side, side), torch.full((rows,), 500), context, capture)
        (noise.square().mean() + sum(layer.mean() for layer in capture.maps)).backward()


def texts(host: HostModel, checkpointing: bool) -> None:
    with torch.enable_grad(), host.use_plan(MemoryPlan(checkpointing, 2, 128)):
        embeddings = torch.randn(5, 768, requires_grad=True)
        host.encode_prompts([["a photo of", embeddings], ["a photo of a", embeddings]]).context.sum().backward()


with torch.inference_mode():
    small, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(path))
    half = small.clone()
    half.set_model_compute_dtype(torch.bfloat16)
    cases = {
        "four levels": (
            narrow(),
            [MemoryPlan(False, 1, 128), MemoryPlan(False, 2, 192), MemoryPlan(True, 1, 192), MemoryPlan(True, 2, 192)],
        ),
        "one level": (small, [MemoryPlan(False, 1, 192), MemoryPlan(True, 2, 128)]),
        "one level in bfloat16": (half, [MemoryPlan(False, 1, 192), MemoryPlan(True, 2, 128)]),
    }
    results = {}
    for name, (model, plans) in cases.items():
        with host_model(model, clip, vae) as host:
            for plan in plans:
                guess = pass_memory(host.patcher, host.dtype, plan.batch_size, (plan.side // 8) ** 2, plan.checkpointing, ALLOCATOR)
                results[f"{name}, {plan}"] = (guess, counted(lambda plan=plan, host=host: step(host, plan)))
            for checkpointing in (False, True) if name == "one level" else ():
                measured = counted(lambda host=host, checkpointing=checkpointing: texts(host, checkpointing))
                results[f"text, checkpointing {checkpointing}"] = (text_memory(clip, 2, checkpointing), measured)
inside.report(results)
