"""Counted operations are those of the formulas, whichever kernel computes them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.counting import FUSED_ATTENTION, attention_backward_operations, attention_operations, counting

BATCH, HEADS, QUERIES, KEYS, WIDTH = 2, 3, 37, 21, 16
FORWARD = 2 * (2 * BATCH * HEADS * QUERIES * KEYS * WIDTH)  # q k^T, then the probabilities times v
KERNELS = [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]


def inputs(grad: bool) -> list[torch.Tensor]:
    return [torch.randn(BATCH, HEADS, rows, WIDTH, requires_grad=grad) for rows in (QUERIES, KEYS, KEYS)]


def counted(kernel: SDPBackend, grad: bool) -> tuple[int, set[str]]:
    """Operations of one attention call, with its backward pass if asked, and the names of the operators counted."""
    query, key, value = inputs(grad)
    with sdpa_kernel(kernel), counting() as counter:
        out = F.scaled_dot_product_attention(query, key, value)
        if grad:
            out.sum().backward()
    return counter.get_total_flops(), {str(operator) for operator in counter.get_flop_counts()["Global"]}


@pytest.mark.parametrize("kernel", KERNELS)
def test_attention_counts_its_matrix_products(kernel):
    assert counted(kernel, grad=False)[0] == FORWARD
    assert counted(kernel, grad=True)[0] == 3 * FORWARD, "two products for each of the forward pass"


def test_the_kernels_compared_are_different_ones():
    (_, plain), (_, fused) = (counted(kernel, grad=True) for kernel in KERNELS)
    assert plain == {"aten.bmm"}
    assert fused == {f"aten.{FUSED_ATTENTION[0]}{suffix}" for suffix in ("", "_backward")}


def test_kernels_of_other_devices_count_by_the_same_formula():
    """They cannot run here: their formulas are looked up as the counter does."""
    table = counting().flop_registry
    shapes = [tuple(tensor.shape) for tensor in inputs(False)]
    assert attention_operations(*shapes) == FORWARD and attention_backward_operations(shapes[0], *shapes) == 2 * FORWARD
    tensors = inputs(False)
    for name in FUSED_ATTENTION:
        for operator, given, expected in ((name, tensors, FORWARD), (f"{name}_backward", [tensors[0], *tensors], 2 * FORWARD)):
            if hasattr(torch.ops.aten, operator):
                assert table[getattr(torch.ops.aten, operator)](*given, out_val=tensors[0]) == expected, operator


def test_linear_layers_count_the_same_by_onednn():
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("torch was built without oneDNN")
    x, weight = torch.randn(3, 7, 320), torch.randn(256, 320)
    with counting() as plain:
        F.linear(x, weight)
    with counting() as by_onednn:
        torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    assert plain.get_total_flops() == by_onednn.get_total_flops() == 2 * 3 * 7 * 320 * 256
