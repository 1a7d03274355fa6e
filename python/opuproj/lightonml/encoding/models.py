"""Autoencoders with binary codes, which serve as learned encoders for an OPU. They need torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

__all__ = ["AE", "ConvAE", "EncoderDecoder", "LinearAE", "train"]


class AE(torch.nn.Module):
    """An autoencoder. It returns the reconstruction in training mode, and the code of 0 and 1 after ``.eval()``."""


class EncoderDecoder(AE):
    """An autoencoder with one matrix W: the code is Wx > 0, the reconstruction is Wᵀ times the code [1]_.

    Parameters
    ----------
    input_size, hidden_size : int
        The lengths of an input and of its code.

    References
    ----------
    .. [1] J. Tissier, C. Gravier and A. Habrard, "Near-lossless binarization of word embeddings",
       arXiv:1803.09065, 2018.

    Examples
    --------
    >>> import torch
    >>> from opuproj.lightonml.encoding.models import EncoderDecoder
    >>> model = EncoderDecoder(10, 64)
    >>> model(torch.randn(5, 10)).shape, model.eval()(torch.randn(5, 10)).dtype
    (torch.Size([5, 10]), torch.uint8)
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.proj = torch.nn.Linear(input_size, hidden_size, bias=False)

    def forward(self, input: torch.Tensor) -> Any:  # noqa: A002
        """Return reconstructions or codes of inputs of shape (n_samples, input_size)."""
        with torch.no_grad():
            code = self.proj(input) > 0
        return code.to(self.proj.weight.dtype) @ self.proj.weight if self.training else code.to(torch.uint8)

    def regularization(self) -> Any:
        """Return half the squared distance of WᵀW from the identity. :func:`train` adds it to the loss."""
        weight = self.proj.weight
        return 0.5 * (weight.T @ weight - torch.eye(weight.shape[1]).to(weight)).square().sum()


class _Annealed(AE):
    """An autoencoder with the activation tanh(βe)/β, which approaches a step as β grows. The code is βe > 0."""

    encoder: Any
    decoder: Any

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, input: torch.Tensor) -> Any:  # noqa: A002
        """Return reconstructions or codes."""
        e = self.encoder(input)
        if self.training:
            return self.decoder(torch.tanh(self.beta * e) / self.beta)
        return (self.beta * e > 0).to(torch.uint8)


class LinearAE(_Annealed):
    """An autoencoder of two dense layers with tanh(βe)/β between them.

    Parameters
    ----------
    input_size, hidden_size : int
        The lengths of an input and of its code.
    beta : float, default 1
        The inverse temperature β, which :func:`train` raises.
    """

    def __init__(self, input_size: int, hidden_size: int, beta: float = 1.0) -> None:
        super().__init__(beta)
        self.encoder = torch.nn.Linear(input_size, hidden_size)
        self.decoder = torch.nn.Linear(hidden_size, input_size)


class ConvAE(_Annealed):
    """An autoencoder of a convolution and a transposed convolution with tanh(βe)/β between them.

    Parameters
    ----------
    in_ch, out_ch : int
        The channels of an input and of its code.
    kernel_size : int or (int, int)
    beta : float
        The inverse temperature β, which :func:`train` raises.
    stride, padding, dilation, groups, bias, padding_mode
        Parameters of both convolutions, as for :class:`torch.nn.Conv2d`.
    flatten : bool, default False
        Return codes of shape (n_samples, n_bits) rather than (n_samples, out_ch, height, width).
    """

    def __init__(
        self,
        in_ch: int,
        out_ch: int,
        kernel_size: Any,
        beta: float,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        flatten: bool = False,
    ) -> None:
        super().__init__(beta)
        shared = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "bias": bias,
            "padding_mode": padding_mode,
        }
        self.encoder = torch.nn.Conv2d(in_ch, out_ch, kernel_size, **shared)
        self.decoder = torch.nn.ConvTranspose2d(out_ch, in_ch, kernel_size, **shared)
        self.flatten = flatten

    def forward(self, input: torch.Tensor) -> Any:  # noqa: A002
        """Return reconstructions or codes of images of shape (n_samples, in_ch, height, width)."""
        output = super().forward(input)
        return output.flatten(1) if self.flatten and not self.training else output


def train(
    model: AE,
    dataloader: Iterable[Any],
    optimizer: Any,
    criterion: Callable[..., Any] = torch.nn.functional.mse_loss,
    epochs: int = 10,
    beta_interval: int = 5,
    device: Any = None,
    verbose: bool = True,
) -> AE:
    """Train an autoencoder to reconstruct its input.

    Parameters
    ----------
    model : AE
        The model, which is set to training mode and moved to `device`.
    dataloader : iterable
        Batches of inputs. If a batch is a list or tuple, its first element is the input.
    optimizer : torch.optim.Optimizer
    criterion : callable, default mean squared error
        The loss of a reconstruction and the input.
    epochs : int, default 10
    beta_interval : int, default 5
        The number of epochs after which β grows tenfold.
    device : optional
        By default CUDA if available, otherwise the CPU.
    verbose : bool, default True
        Print the mean loss of each epoch.

    Returns
    -------
    AE
        The model.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = model.train().to(device)
    for epoch in range(epochs):
        losses = []
        for batch in dataloader:
            data = (batch[0] if isinstance(batch, (list, tuple)) else batch).to(device)
            optimizer.zero_grad()
            loss = criterion(model(data), data)
            losses.append(loss.item())
            if isinstance(model, EncoderDecoder):
                loss = loss + model.regularization()
            loss.backward()
            optimizer.step()
        if isinstance(model, _Annealed) and epoch and epoch % beta_interval == 0:
            model.beta *= 10
        if verbose:
            print(f"Epoch: [{epoch + 1}/{epochs}], Training Loss: {sum(losses) / max(1, len(losses))}")
    return model
