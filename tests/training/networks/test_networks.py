"""Options of the plain network: exact merging, INT8 flag, weight interpolation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from training import networks
from training.networks import interpolate
from training.networks.blocks import CollapsedConv, SpanAttention, SqueezeExcite
from training.recipe.schema import NetworkRecipe

SMALL = NetworkRecipe(width=8, depth=4)


def shaken(net: nn.Module) -> nn.Module:
    """Return the net with every parameter moved, so that nothing is at its initial value."""
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=random))
    return net.eval()


def small(attention: str = "none", *, reparam: bool = False, scale: int = 2) -> networks.PlainNet:
    """Build a small net with options."""
    return networks.build(
        NetworkRecipe(width=8, depth=4, attention=attention, reparam=reparam), scale
    )


def test_a_collapsed_convolution_is_the_sum_of_four() -> None:
    """Four convolutions computed one by one and added: the same numbers."""
    conv = shaken(CollapsedConv(3, 5))
    assert isinstance(conv, CollapsedConv)
    x = torch.rand(1, 3, 7, 9)
    expected = (
        nn.functional.conv2d(x, conv.weight, conv.bias, padding=1)
        + nn.functional.conv2d(x, conv.along_width, padding=(0, 1))
        + nn.functional.conv2d(x, conv.along_height, padding=(1, 0))
        + nn.functional.conv2d(x, conv.center)
    )
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("attention", ["none", "se", "span"])
def test_the_deployed_net_computes_the_same(attention: str) -> None:
    """Merged: the same picture within rounding, and the weights of a plain net."""
    net = shaken(small(attention, reparam=True))
    deployed = networks.deployed(net)
    assert not any(isinstance(module, CollapsedConv) for module in deployed.modules())
    assert deployed.state_dict().keys() == small(attention).state_dict().keys()
    lr = torch.rand(2, 3, 11, 13)
    torch.testing.assert_close(deployed(lr), net(lr), atol=1e-6, rtol=1e-5)


def test_a_plain_net_is_deployed_as_it_is() -> None:
    """Nothing to merge: the same object, for networks of other kinds as well."""
    net, other = small(), nn.Conv2d(3, 3, 1)
    assert networks.deployed(net) is net
    assert networks.deployed(other) is other


def test_a_new_reparametrized_net_is_the_plain_one() -> None:
    """The added kernels start at 0; all of them get a gradient."""
    torch.manual_seed(0)
    net = small(reparam=True)
    plain = small()
    plain.load_state_dict({n: t for n, t in net.state_dict().items() if n in plain.state_dict()})
    lr = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(net(lr), plain(lr))
    net(lr).square().mean().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in net.parameters())


def test_a_reparametrized_net_starts_from_plain_weights() -> None:
    """From plain weights of the same scale, and from reparametrized ones of a smaller scale."""
    plain = shaken(small())
    net = small(reparam=True)
    networks.warm_start(net, plain.state_dict())
    lr = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(net.eval()(lr), plain(lr))
    smaller, larger = shaken(small(reparam=True)), small(reparam=True, scale=4)
    networks.warm_start(larger, smaller.state_dict())
    expected = smaller(lr).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(larger.eval()(lr), expected)
    with pytest.raises(ValueError, match="another architecture"):
        networks.warm_start(small(), net.state_dict())


@pytest.mark.parametrize("reparam", [False, True])
def test_a_larger_net_begins_as_the_smaller_one(reparam: bool) -> None:
    """Wider, deeper and of a larger scale at once; all new parts can learn."""
    old = small(reparam=reparam)
    shaken(old)
    new = networks.build(NetworkRecipe(width=old.width + 5, depth=old.depth + 3, reparam=True), 4)
    networks.warm_start(new, old.state_dict())
    lr = torch.rand(1, 3, 9, 8)
    expected = old.eval()(lr).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(new.eval()(lr), expected)
    optimizer = torch.optim.SGD(new.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        (new(lr) - torch.rand(1, 3, 36, 32)).square().mean().backward()
        optimizer.step()
    for conv in new.convs:
        assert isinstance(conv.weight, Tensor)
        assert conv.weight.grad is not None
        touched = conv.weight.grad.abs().sum(dim=(1, 2, 3)) > 0
        assert touched.float().mean() > 0.5, "the added channels get no gradient"
    with pytest.raises(ValueError, match="another architecture"):
        networks.warm_start(old, new.state_dict())
    narrow = networks.build(NetworkRecipe(width=4, depth=old.depth), 2)
    with pytest.raises(ValueError, match=r"expected \(4, 3, 3, 3\)"):
        networks.warm_start(narrow, small().state_dict())


def test_squeeze_and_excitation() -> None:
    """relu(x) * 2 s(W2 relu(W1 mean)) by hand; a new one is a ReLU."""
    block = SqueezeExcite(8)
    x = torch.randn(2, 8, 5, 6)
    torch.testing.assert_close(block(x, x), torch.relu(x))
    shaken(block)
    w1, w2 = block.squeeze.weight[:, :, 0, 0], block.excite.weight[:, :, 0, 0]
    b1, b2 = block.squeeze.bias, block.excite.bias
    assert b1 is not None
    assert b2 is not None
    gate = 2 * torch.sigmoid(torch.relu(x.mean(dim=(2, 3)) @ w1.T + b1) @ w2.T + b2)
    torch.testing.assert_close(block(x, x), torch.relu(x) * gate[:, :, None, None])


def test_span_attention() -> None:
    """It is before + (x + before)(s(x) - 1/2): no parameters, and nothing happens where x is 0."""
    block = SpanAttention()
    assert not list(block.parameters())
    x, before = torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, 1.0]])
    expected = 1 + 3 * (1 / (1 + float(torch.tensor(-2.0).exp())) - 0.5)
    torch.testing.assert_close(block(x, before), torch.tensor([[3.0, expected]]))


@pytest.mark.parametrize("attention", ["none", "se", "span"])
def test_a_new_net_with_attention_is_alive(attention: str) -> None:
    """Signal and gradient pass 8 layers; INT8 is recommended for convolutions alone."""
    torch.manual_seed(0)
    net = networks.build(NetworkRecipe(width=16, depth=8, attention=attention), 2)
    (net(torch.rand(2, 3, 16, 16)) - 0.5).abs().mean().backward()
    for name, parameter in net.named_parameters():
        if "squeeze" not in name:  # its gradient is 0 behind the zero weights of a new excitation
            assert parameter.grad is not None
            assert float(parameter.grad.abs().max()) > 1e-7, name
    assert net.int8_friendly == (attention == "none")


def test_interpolation() -> None:
    """Exactly the parents at 0 and 1, their mean at 0.5."""
    pixel, gan = shaken(small()).state_dict(), small().state_dict()
    for texture, expected in ((0.0, pixel), (1.0, gan)):
        mixed = interpolate(pixel, gan, texture)
        assert all(torch.equal(mixed[name], expected[name]) for name in expected)
    half = interpolate(pixel, gan, 0.5)
    for name, value in half.items():
        torch.testing.assert_close(value, (pixel[name] + gan[name]) / 2)


def test_interpolation_commutes_with_merging() -> None:
    """Mixing before or after `deployed` gives the same net."""
    one, two, mixed = shaken(small(reparam=True)), small(reparam=True), small(reparam=True)
    mixed.load_state_dict(interpolate(one.state_dict(), two.state_dict(), 0.3))
    after = interpolate(
        networks.deployed(one).state_dict(), networks.deployed(two).state_dict(), 0.3
    )
    before = networks.deployed(mixed).state_dict()
    for name, value in after.items():
        torch.testing.assert_close(before[name], value)


@pytest.mark.parametrize("texture", [-0.1, 1.5, float("nan")])
def test_interpolation_is_between_0_and_1(texture: float) -> None:
    """Other values would extrapolate."""
    state: dict[str, Tensor] = {"a": torch.zeros(1)}
    with pytest.raises(ValueError, match="allowed: 0 to 1"):
        interpolate(state, state, texture)


def test_interpolation_of_two_architectures_is_refused() -> None:
    """The error names a tensor that differs."""
    with pytest.raises(ValueError, match=r"two architectures cannot be mixed: convs\.\d"):
        interpolate(small().state_dict(), small(scale=4).state_dict(), 0.5)
