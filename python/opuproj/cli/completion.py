"""`opuproj completion`: prints shell code, made by argcomplete, that completes the command's arguments."""

from __future__ import annotations

import argparse
from typing import Any

from . import _arguments

_EXAMPLES = """\
  bash  echo 'eval "$(opuproj completion bash)"' >> ~/.bashrc
  zsh   echo 'eval "$(opuproj completion zsh)"' >> ~/.zshrc
  fish  opuproj completion fish > ~/.config/fish/completions/opuproj.fish"""


def add_parser(commands: Any) -> None:
    """Describe the command line."""
    parser = _arguments.add_command(commands, "completion", "print shell code that completes arguments", _EXAMPLES)
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print the shell code."""
    print(_library().shellcode(["opuproj"], shell=arguments.shell))


def complete(parser: argparse.ArgumentParser) -> None:
    """Print the completions that a shell requested, and end the process."""
    _library().autocomplete(parser)


def _library() -> Any:
    try:
        import argcomplete
    except ImportError as error:
        raise ValueError("completion needs the argcomplete package: pip install 'opuproj[cli]'") from error
    return argcomplete
