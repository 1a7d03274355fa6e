"""The diffusion process: noise that is added to images step by step, and how a model removes it.

The process is that of DDPM (Ho, Jain and Abbeel, 2020): 1,000 steps with variances from 1e-4 to 0.02, and a model that
predicts the noise. Samples come from the deterministic DDIM (Song, Meng and Ermon, 2021), in which the initial noise
decides the image. So models that begin from the same noise can be compared image by image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 1000
Model = Callable[[Tensor, Tensor], Tensor]
"""From noisy images (rows, 28, 28) and times (rows,) from 0 to 1, to the noise in them."""


class Process:
    """The variances of all steps, on a device.

    Attributes
    ----------
    signal, noise
        The factors of image and noise after each step, of shape (STEPS,): signal² + noise² = 1.
    """

    def __init__(self, device: str = "cpu"):
        kept = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64).neg().add(1).cumprod(0)
        self.signal = kept.sqrt().float().to(device)
        self.noise = (1 - kept).sqrt().float().to(device)

    def noisy(self, images: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
        """Return the images (rows, 28, 28) after these steps (rows,), with this noise."""
        return self.signal[steps, None, None] * images + self.noise[steps, None, None] * noise

    def squares(self, model: Model, images: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
        """Return the mean square error of each image's predicted noise, of shape (rows,)."""
        predicted = model(self.noisy(images, steps, noise), steps / STEPS)
        return (predicted - noise).square().mean(dim=(1, 2))

    @torch.no_grad()
    def sample(self, model: Model, noise: Tensor, n_steps: int) -> Tensor:
        """Turn noise (rows, 28, 28) into images from −1 to 1 in n_steps steps of DDIM."""
        x = noise
        places = torch.linspace(STEPS - 1, 0, n_steps).round().long().tolist()
        for step, after in zip(places, [*places[1:], None], strict=True):
            predicted = model(x, torch.full((len(x),), step / STEPS, device=x.device))
            image = ((x - self.noise[step] * predicted) / self.signal[step]).clamp(-1, 1)
            if after is None:
                return image
            # The noise that this image leaves, as in DDPM's own samplers, because clamping changed the image.
            predicted = (x - self.signal[step] * image) / self.noise[step]
            x = self.signal[after] * image + self.noise[after] * predicted
        return x
