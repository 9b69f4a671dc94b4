"""Write docs/commands.md from the commands' own help: ``python docs/generate_commands.py``."""

import inspect
import sys
import typing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import typer.main  # noqa: E402

import cli  # noqa: E402


def kind_of(parameter: inspect.Parameter) -> str:
    """Return what an option takes, in words; nothing for flags that are on or off."""
    kind = typing.get_args(parameter.annotation)[0]
    (kind,) = (one for one in typing.get_args(kind) or (kind,) if one is not type(None))
    if typing.get_origin(kind) is list:
        return "text, repeatable"
    return {str: "text", int: "integer", float: "number", Path: "path", bool: ""}[kind]


def default_of(parameter: Any) -> str:
    """Return the default as it is typed; an empty string for none and for flags that are off."""
    if parameter.required:
        return "required"
    value = parameter.default
    return "" if value in (None, False, "") or callable(value) else str(value)


def page() -> str:
    """Return the page."""
    lines = [
        "# Commands and flags",
        "",
        "`patchbank COMMAND --help` says the same. Results go to stdout, progress and notes to stderr; with `--json`",
        "stdout is exactly one JSON document. This page is made from the code by `python docs/generate_commands.py`.",
        "",
        "`patchbank --version` prints name and version. `patchbank --install-completion` installs completion",
        "of commands and flags for your shell (bash, zsh, fish, PowerShell; open a new shell after it),",
        "`--show-completion` prints the script instead.",
    ]
    group: Any = typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        typed = "".join(f" {one.name.upper()}" if one.required else f" [{one.name.upper()}]" for one in arguments)
        lines += ["", f"## patchbank {name}{typed}", "", " ".join((command.help or "").split()), ""]
        lines += ["| argument or flag | takes | default | meaning |", "|---|---|---|---|"]
        signature = inspect.signature(cli.COMMANDS[name]).parameters.values()
        takes = {one.name: kind_of(one) for one in signature}
        for one in (one for one in command.params if one.name in takes):
            argument = one in arguments
            spelt = one.name.upper() if argument else ", ".join([*one.opts, *one.secondary_opts])
            environment = f" Or `{one.envvar}`." if one.envvar else ""
            meaning = " ".join((one.help or "").split()).replace("|", "\\|") + environment
            lines.append(f"| `{spelt}` | {takes[one.name]} | {default_of(one)} | {meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "commands.md").write_text(page())
