"""`opuproj completion`: what a shell runs to complete the command's arguments, made by argcomplete."""

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
    parser = _arguments.add_command(commands, "completion", "print what makes a shell complete arguments", _EXAMPLES)
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="for which shell")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print the shell code."""
    print(_library().shellcode(["opuproj"], shell=arguments.shell))


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks how arguments go on, and end the process."""
    _library().autocomplete(parser)


def _library() -> Any:
    try:
        import argcomplete
    except ImportError as error:
        raise ValueError("completion needs the argcomplete package: pip install 'opuproj[cli]'") from error
    return argcomplete
