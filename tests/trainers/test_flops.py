from itertools import pairwise

import pytest
import torch
from torch import nn

from trainers.config import TrialConfig
from trainers.data import load
from trainers.flops import count_flops, count_params, flops_per_epoch
from trainers.models import Cnn, Mlp


@pytest.mark.parametrize("sizes", [(64, 10), (64, 128, 10), (20, 16, 16, 16, 3)])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_mlp_flops_in_closed_form(sizes, batch_size):
    *_, num_outputs = sizes
    depth = len(sizes) - 2
    width = sizes[1] if depth else 1
    model = Mlp((sizes[0],), num_outputs, depth=depth, width=width, batch_norm="after")
    products = [a * b for a, b in pairwise(sizes)]
    flops = count_flops(model, (sizes[0],), batch_size)
    assert flops.forward == 2 * batch_size * sum(products)
    # Weights of every layer, and inputs of all but the first, whose gradient nobody needs.
    assert flops.backward == 2 * batch_size * (sum(products) + sum(products[1:]))
    assert flops.total == flops.forward + flops.backward


def test_conv_flops_in_closed_form():
    model = Cnn((1, 8, 8), 10, depth=1, width=4)
    flops = count_flops(model, (1, 8, 8), 16)
    assert flops.forward == 2 * 16 * (8 * 8 * 4 * 9 + 4 * 4 * 4 * 10)


def test_counting_changes_neither_model_nor_generator():
    model = Mlp((6,), 2, dropout=0.5, batch_norm="before")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    count_flops(model, (6,), 8)
    assert torch.rand(1) == expected
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_parameters_with_and_without_embeddings_count_tied_weights_once():
    model = nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 4), nn.Linear(4, 11, bias=False))
    assert count_params(model) == (44 + 20 + 44, 20 + 44)
    model[2].weight = model[0].weight
    assert count_params(model) == (44 + 20, 20)


def test_an_epoch_costs_every_training_row_once():
    config = TrialConfig()
    dataset = load(config.data)
    per_row = 2 * (2 * 64 * 128 + 3 * 128 * 128 + 3 * 128 * 10)
    assert flops_per_epoch(config, dataset) == per_row * dataset.num_train


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_epoch_of_an_mlp_costs_what_torchs_counter_counts(depth):
    config = TrialConfig.from_mapping({"model.depth": depth, "model.batch_norm": "after"})
    dataset = load(config.data)
    model = Mlp(dataset.input_shape, dataset.num_outputs, depth=depth)
    counted = count_flops(model, dataset.input_shape, 1)
    assert flops_per_epoch(config, dataset) == counted.total * dataset.num_train
