"""``manyhands completion``: what a shell needs to complete commands, options and names of functions."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      eval "$(manyhands completion bash)"                  in ~/.bashrc
      eval "$(manyhands completion zsh)"                   in ~/.zshrc
      manyhands completion fish > ~/.config/fish/completions/manyhands.fish
    """  # noqa: D301  # \b is click's mark for lines that stay as they are
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root()
    # Without ``source``, which would start a bash to ask for its version.
    complete = kind(root.command, {}, "manyhands", "_MANYHANDS_COMPLETE")
    click.echo(complete.source_template % complete.source_vars())
