"""A network as a torch module computes what the executor computes, and has its gradient."""

from __future__ import annotations

import numpy as np
import torch

from chimera_lib.images import executor
from chimera_lib.images.audit import normalised
from chimera_lib.images.search.protocol import as_input
from chimera_lib.images.torch_network import to_torch


def test_equals_the_executor(small_network, pictures):
    network = normalised(small_network, "imagenet")
    run = executor.Executor(network.program, network.arrays, lambda a, b, out: np.matmul(a, b, out=out))
    with torch.no_grad():
        logits = to_torch(network)(as_input(pictures)).numpy()
    expected = np.stack([run.predict(image) for image in pictures])
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_gradient_is_that_of_the_module_it_came_from(small_model, small_network, pictures):
    gradients = []
    for model in (small_model, to_torch(small_network)):
        x = as_input(pictures[:2]).requires_grad_()
        model(x)[:, 3].sum().backward()
        gradients.append(x.grad.numpy())
    assert np.abs(gradients[0]).max() > 0.01
    np.testing.assert_allclose(gradients[1], gradients[0], atol=1e-4)


def test_double_precision_reaches_every_weight(small_network, pictures):
    module = to_torch(small_network)
    single = module(as_input(pictures[:1])).detach()
    double = module.double()(as_input(pictures[:1]).double())
    assert double.dtype == torch.float64 and not module.training
    assert 0 < (double - single).abs().max() < 1e-3
