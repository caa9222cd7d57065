"""Interpolate the weights of two networks, between fidelity and texture."""

from __future__ import annotations

from torch import Tensor


def interpolate(
    pixel_state: dict[str, Tensor], gan_state: dict[str, Tensor], texture: float
) -> dict[str, Tensor]:
    """Return (1 - texture) * pixel weights + texture * gan weights.

    Network interpolation, Wang et al. 2018 (ESRGAN, arXiv:1809.00219): it works because the second
    net was trained from the first. Both nets must have the same architecture, merged or not:
    merging is linear, so it can be done before or after.

    Raises:
        ValueError: `texture` is outside 0..1, or the nets differ.
    """
    if not 0 <= texture <= 1:
        raise ValueError(f"texture = {texture}, allowed: 0 to 1")
    shapes = [{n: tuple(t.shape) for n, t in s.items()} for s in (pixel_state, gan_state)]
    if shapes[0] != shapes[1]:
        odd = sorted(name for name, _ in shapes[0].items() ^ shapes[1].items())
        raise ValueError(f"weights of two architectures cannot be mixed: {odd[0]} differs")
    # not lerp: at 0 and 1 the result is exactly one of the two
    return {n: (1 - texture) * t + texture * gan_state[n] for n, t in pixel_state.items()}
