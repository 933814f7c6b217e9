"""The core of attention against torch's own, its slopes, and its lanes under vmap."""

import pytest
import torch
from torch.func import vmap
from torch.nn.functional import scaled_dot_product_attention

from trainers.models.attend import attend


def random_rows(*shape: int) -> list[torch.Tensor]:
    return [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("masked", [False, True])
def test_values_and_slopes_are_those_of_torchs_attention(masked):
    rows = random_rows(2, 3, 5, 4)
    hidden = torch.ones(5, 5).triu(1).bool() if masked else None
    ours = attend(*rows, hidden)
    torchs = scaled_dot_product_attention(*rows, attn_mask=None if hidden is None else ~hidden)
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14)
    weights = torch.randn_like(ours)
    slopes = torch.autograd.grad((weights * ours).sum(), rows)
    expected = torch.autograd.grad((weights * torchs).sum(), rows)
    torch.testing.assert_close(slopes, expected, rtol=1e-11, atol=1e-13)


def test_lanes_under_vmap_are_as_one_by_one_and_may_share_keys():
    q, k, v = random_rows(3, 2, 5, 4)
    hidden = torch.ones(5, 5).triu(1).bool()
    together = vmap(lambda q, k, v: attend(q, k, v, hidden), in_dims=(0, None, 0))(q, k[0], v)
    alone = torch.stack([attend(q[i], k[0], v[i], hidden) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)
    weights = torch.randn_like(alone)
    slopes = torch.autograd.grad((weights * together).sum(), (q, k, v))
    expected = torch.autograd.grad((weights * alone).sum(), (q, k, v))
    torch.testing.assert_close(slopes, expected, rtol=1e-11, atol=1e-13)
