"""A decoder-only Transformer like GPT: pre-norm layers, each ended by one more norm, learned positions, GELU."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True)
class Shape:
    """The sizes of a model.

    Parameters
    ----------
    width
        The size of the embedding.
    n_layers
        Decoder layers.
    n_heads
        Attention heads of a layer; divides `width`.
    vocabulary
        Different tokens.
    context
        The number of tokens in a window.
    expansion
        Hidden units of a layer's perceptron, as a multiple of `width`.
    end_norm
        Whether each layer ends with a layer norm. Feedback has no information about the size of a layer's output; the
        norm limits it, so that the layer above keeps working.
    embedding_deviation
        Standard deviation of the initial embeddings. GPT-2's 0.02 is small against what untrained layers add.
    turn
        Whether the last layer begins with a linear map, which can start aligned with the feedback.
    """

    width: int = 128
    n_layers: int = 4
    n_heads: int = 4
    vocabulary: int = 1016
    context: int = 24
    expansion: int = 4
    end_norm: bool = True
    embedding_deviation: float = 0.3
    turn: bool = True


class GPT(nn.Module):
    """Logits of the next token at every position: embedding, decoder layers, layer norm, projection to the vocabulary.

    Before the last layer there may be a linear map, the turn.

    The constructor allocates no parameters; `initialise` does.

    Parameters
    ----------
    shape
        The sizes.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        with torch.device("meta"):
            self.embedding = Embedding(shape)
            self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.n_layers))
            self.turn = nn.Linear(shape.width, shape.width, bias=False) if shape.turn else nn.Identity()
            self.norm = nn.LayerNorm(shape.width)
            self.head = nn.Linear(shape.width, shape.vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of shape (batch, positions) to logits of shape (batch, positions, vocabulary)."""
        hidden = self.embedding(tokens)
        for layer in self.layers[:-1]:
            hidden = layer(hidden)
        hidden = self.layers[-1](self.turn(hidden))
        logits: Tensor = self.head(self.norm(hidden))
        return logits

    def initialise(self, generator: torch.Generator, text: Tensor | None = None) -> GPT:
        """Allocate the parameters and draw them as GPT-2 does: deviation 0.02, less where they add to the stream.

        Given a text, the logits start at the frequencies of its tokens. From zero, the first errors would contain only
        these frequencies, the same for all tokens.
        """
        self.to_empty(device="cpu")
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            else:
                added = name.endswith(("attention.output.weight", "perceptron.output.weight"))
                deviation = 0.02 / math.sqrt(2 * self.shape.n_layers) if added else 0.02
                deviation = self.shape.embedding_deviation if name.startswith("embedding") else deviation
                deviation = 1 / math.sqrt(self.shape.width) if name.startswith("turn") else deviation
                nn.init.normal_(parameter, std=deviation, generator=generator)
        if text is not None:
            counts = torch.bincount(text, minlength=self.shape.vocabulary) + 1.0
            with torch.no_grad():
                self.head.bias.copy_(torch.log(counts / counts.sum()))
        return self

    def count(self) -> int:
        """Return the number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())


class Embedding(nn.Module):
    """The sum of the embeddings of the token and of its position."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, positions) to vectors (batch, positions, width)."""
        embedded: Tensor = self.tokens(tokens) + self.positions.weight[: tokens.shape[-1]]
        return embedded


class DecoderLayer(nn.Module):
    """Attention to earlier positions, then a perceptron at each position; both add to the stream of vectors."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.width)
        self.attention = Attention(shape)
        self.perceptron_norm = nn.LayerNorm(shape.width)
        self.perceptron = Perceptron(shape)
        self.end_norm = nn.LayerNorm(shape.width) if shape.end_norm else nn.Identity()

    def forward(self, stream: Tensor) -> Tensor:
        """(batch, positions, width) to the same shape."""
        stream = stream + self.attention(self.attention_norm(stream))
        stream = stream + self.perceptron(self.perceptron_norm(stream))
        ended: Tensor = self.end_norm(stream)
        return ended


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, shape: Shape):
        super().__init__()
        if shape.width % shape.n_heads:
            raise ValueError(f"n_heads = {shape.n_heads} must divide width = {shape.width}")
        self.n_heads = shape.n_heads
        self.input = nn.Linear(shape.width, 3 * shape.width)
        self.output = nn.Linear(shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, positions, width) to the same shape."""
        # (batch, positions, 3 · width) to three times (batch, heads, positions, width / heads).
        query, key, value = self.input(x).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        summed: Tensor = self.output(mixed.transpose(1, 2).flatten(-2))
        return summed


class Perceptron(nn.Module):
    """Two layers with a GELU between them, the same at every position."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.input = nn.Linear(shape.width, shape.expansion * shape.width)
        self.output = nn.Linear(shape.expansion * shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, positions, width) to the same shape."""
        out: Tensor = self.output(F.gelu(self.input(x)))
        return out


def generate(model: GPT, prompt: Tensor, length: int, generator: torch.Generator, temperature: float = 0.8) -> Tensor:
    """Continue a prompt by `length` tokens drawn one after the other.

    Parameters
    ----------
    model
        The model that predicts the next token from the last `context` tokens.
    prompt
        At least one token.
    length
        The number of tokens to add.
    generator
        The source of random numbers, separate from that of the training.
    temperature
        Values below 1 make likely tokens more likely.
    """
    tokens = prompt
    for _ in range(length):
        with torch.no_grad():
            # The tokens are drawn on the CPU, whatever the device of the model.
            window = tokens[None, -model.shape.context :].to(model.head.weight.device)
            logits = model(window)[0, -1].float().cpu()
        drawn = torch.multinomial(torch.softmax(logits / temperature, dim=-1), 1, generator=generator)
        tokens = torch.cat([tokens, drawn])
    return tokens
