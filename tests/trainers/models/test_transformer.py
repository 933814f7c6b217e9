"""Attention against torch's own, windows against masks, causality, and closed-form sizes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from trainers.config import ModelConfig, TrialConfig
from trainers.errors import ConfigError
from trainers.flops import count_flops, count_params
from trainers.models import build_model
from trainers.models.attention import Attention, dense_attention, windowed_attention
from trainers.models.transformer import num_transformer_params

CLOSE = {"rtol": 0, "atol": 1e-12}


def heads_of(length: int, size: int = 4) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(length)
    shape = (2, 3, length, size)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))


@pytest.mark.parametrize("causal", [False, True])
def test_dense_attention_equals_torchs(causal: bool) -> None:
    q, k, v = heads_of(11)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    torch.testing.assert_close(dense_attention(q, k, v, causal=causal), expected, **CLOSE)


def test_a_layer_equals_torchs_multi_head_attention() -> None:
    torch.manual_seed(0)
    own = Attention(12, 3, window=None, causal=False).double()
    torchs = nn.MultiheadAttention(12, 3, batch_first=True).double()
    with torch.no_grad():
        torchs.in_proj_weight.copy_(own.query_key_value.weight)
        torchs.in_proj_bias.copy_(own.query_key_value.bias)
        torchs.out_proj.load_state_dict(own.out.state_dict())
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    torch.testing.assert_close(own(x), torchs(x, x, x)[0], **CLOSE)


@settings(deadline=None, max_examples=60)
@given(length=st.integers(1, 40), window=st.integers(1, 40), causal=st.booleans())
def test_a_window_by_blocks_equals_dense_attention_with_a_band_mask(
    length: int, window: int, causal: bool
) -> None:
    window = min(window, length)
    q, k, v = heads_of(length)
    places = torch.arange(length)
    distance = places[:, None] - places[None, :]
    seen = (distance.abs() < window) & ((distance >= 0) | torch.tensor(not causal))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    found = windowed_attention(q, k, v, window=window, causal=causal)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("language_model", [False, True])
def test_a_full_window_is_dense_attention(language_model: bool) -> None:
    shape = (16,) if language_model else (2, 16)
    x = torch.randint(0, 9, (3, 16)).double() if language_model else torch.randn(3, 2, 16).double()
    values = {"kind": "transformer", "width": 8, "heads": 2, "language_model": language_model}
    dense = build_model(ModelConfig(**values), shape, 9).double()  # type: ignore[arg-type]
    full = build_model(ModelConfig(**values, window=16), shape, 9).double()  # type: ignore[arg-type]
    torch.testing.assert_close(full(x), dense(x), **CLOSE)


def test_a_windows_cost_is_linear_in_the_length_and_full_attentions_is_not() -> None:
    def attention_flops(length: int, window: int | None) -> int:
        config = ModelConfig(kind="transformer", depth=1, width=8, heads=1, window=window)
        model = build_model(config, (1, length), 2)
        products = count_flops(model, (1, length), 2).forward
        linear = (
            count_flops(
                build_model(
                    ModelConfig(kind="transformer", depth=1, width=8, heads=1, window=1),
                    (1, length),
                    2,
                ),
                (1, length),
                2,
            ).forward
            - 2 * 2 * 2 * 8 * 3 * length
        )  # a window of 1 costs 3 keys for each query
        return products - linear

    assert attention_flops(128, 8) == 2 * attention_flops(64, 8) == 4 * attention_flops(32, 8)
    assert attention_flops(128, None) == 4 * attention_flops(64, None)
    assert attention_flops(128, None) == 2 * 2 * 2 * 8 * 128 * 128


def test_a_language_model_sees_no_later_token_and_only_its_window() -> None:
    config = ModelConfig(
        kind="transformer", depth=1, width=8, heads=2, window=4, language_model=True
    )
    model = build_model(config, (12,), 30).double()
    tokens = torch.randint(0, 30, (2, 12)).double()
    changed = tokens.clone()
    changed[:, 5] = (tokens[:, 5] + 1) % 30
    differs = (model(tokens) - model(changed)).abs().amax((0, 2)) > 0
    assert differs.tolist() == [5 <= place < 5 + 4 for place in range(12)]


@pytest.mark.parametrize(("depth", "width", "tokens"), [(1, 8, 0), (3, 16, 0), (2, 64, 256)])
def test_sizes_in_closed_form(depth: int, width: int, tokens: int) -> None:
    config = ModelConfig(kind="transformer", depth=depth, width=width, language_model=bool(tokens))
    shape = (20,) if tokens else (3, 20)
    expected = num_transformer_params(20, 3, tokens or 5, depth=depth, width=width, tokens=tokens)
    assert count_params(build_model(config, shape, tokens or 5)) == expected


def test_a_decoder_has_about_12_parameters_per_layer_and_squared_width() -> None:
    for depth, width in ((12, 768), (96, 12288)):  # GPT-2 small and GPT-3
        _, outside = num_transformer_params(1024, 1, 50257, depth=depth, width=width, tokens=50257)
        in_blocks = outside - (width + 1) * 50257
        assert in_blocks == pytest.approx(12 * depth * width**2, rel=0.002)
    assert pytest.approx(175e9, rel=0.01) == 12 * 96 * 12288**2


def test_the_first_loss_is_near_that_of_knowing_nothing() -> None:
    config = ModelConfig(kind="transformer", language_model=True)
    model = build_model(config, (16,), 256).eval()
    tokens = torch.randint(0, 256, (8, 17))
    logits = model(tokens[:, :-1].float())
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    assert float(loss.detach()) == pytest.approx(math.log(256), abs=0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 30, "heads": 4}, r"`model.heads` must divide `model.width`, but got 4 and 30"),
        ({"kind": "mlp", "heads": 2}, r"`model.heads` belongs to `model.kind: transformer`"),
        ({"batch_norm": "before"}, r"`model.batch_norm` belongs to"),
    ],
)
def test_keys_that_cannot_work_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrialConfig.from_mapping({"model": {"kind": "transformer", **values}})


def test_a_window_longer_than_the_sequence_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`model.window` must be <= the sequence's 8 positions"):
        build_model(ModelConfig(kind="transformer", window=9), (1, 8), 2)
