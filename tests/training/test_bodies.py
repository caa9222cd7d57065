"""The compared architectures: equal compute, right shapes, trained by the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from tests.conftest import make_picture
from training import bodies, networks
from training.recipe.schema import NetworkRecipe

PLAIN = 3 * 32 * 9 + 8 * 32 * 32 * 9 + 32 * 48 * 9
"""Multiply-adds per input pixel."""


def work(net: nn.Module, side: int = 16) -> float:
    """Count the multiply-adds of all convolutions of a network, per input pixel."""
    total = 0

    def add(conv: nn.Module, _: tuple[Tensor, ...], made: Tensor) -> None:
        nonlocal total
        assert isinstance(conv, nn.Conv2d)
        total += made.shape[2] * made.shape[3] * conv.weight.numel()

    hooks = [m.register_forward_hook(add) for m in net.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        net(torch.rand(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return total / side**2


@pytest.mark.parametrize("name", bodies.BODIES)
def test_all_take_about_as_much_work(name: str) -> None:
    """Compute is equal within 6 %; outputs are four times as large; all weights get gradients."""
    torch.manual_seed(0)
    net = bodies.BODIES[name]()
    assert work(net) == pytest.approx(PLAIN, rel=0.06)
    lr = torch.rand(2, 3, 12, 16)
    sr = net(lr)
    assert sr.shape == (2, 3, 48, 64)
    sr.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_the_plain_one_is_the_shipped_architecture() -> None:
    """The same weights give the same picture in both."""
    torch.manual_seed(0)
    body, net = bodies.BODIES["plain"](), networks.build(NetworkRecipe(), 4)
    net.load_state_dict(dict(zip(net.state_dict(), body.body.state_dict().values(), strict=True)))
    lr = torch.rand(1, 3, 12, 16)
    torch.testing.assert_close(body(lr), net(lr))


def test_the_anchors() -> None:
    """Without a body: nearest-neighbor (learned or not), bilinear, bicubic, black."""
    lr = torch.rand(1, 3, 6, 8)
    nearest = lr.repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(bodies.Shuffled(1)(lr), nearest)
    torch.testing.assert_close(bodies.Shuffled(5)(lr), nearest)
    for mode in ("bilinear", "bicubic"):
        wanted = F.interpolate(lr, scale_factor=4, mode=mode, align_corners=False)
        torch.testing.assert_close(bodies.Interpolated(mode)(lr), wanted)
    assert not bodies.Nothing()(lr).any()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It trains a recipe and scores its validation split; other kinds of recipe are rejected."""
    (tmp_path / "data").mkdir()
    for seed in range(10):
        Image.fromarray(make_picture(48, 64, seed)).save(tmp_path / "data" / f"{seed}.png")
    text = 'name = "t"\nscale = 4\nsteps = 2\ncheck_step = 0\ndata = { patch_px = 8, batch = 2 }\n'
    (tmp_path / "t.toml").write_text(text)
    call = ["--data", str(tmp_path / "data"), "--cache", str(tmp_path / "cache")]
    call += ["--out", str(tmp_path / "run")]
    assert bodies.main(["narrow", str(tmp_path / "t.toml"), *call]) == 0
    (line,) = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["validation"]["psnr_y_db"] > 5
    (tmp_path / "t.toml").write_text(text.replace("scale = 4", "scale = 2"))
    assert bodies.main(["narrow", str(tmp_path / "t.toml"), *call]) == 1
    assert "expected the pixel stage of family gan, x4" in capsys.readouterr().err
