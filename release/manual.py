"""What the commands say of themselves, as man pages (``make man``) and as a page of the site (``make site``).

Nothing is written twice: words, options and examples are those of the commands' declarations.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from privacy_toolkit import __version__
from privacy_toolkit.cli.main import cli, examples
from privacy_toolkit.core.model import ExitCode

ROOT = Path(__file__).parents[1]
PROGRAM = "privacy-toolkit"
#: What each exit code says (docs of the contract's section 2).
EXITS = {
    ExitCode.SETTLED: "All settled, nothing refused.",
    ExitCode.BUG: "A bug.",
    ExitCode.USAGE: "Usage or settings, or a confirmation is missing.",
    ExitCode.OPEN_ITEMS: "Finished, with open, failed or refused ones.",
    ExitCode.STOPPED: "Stopped early; the run can be resumed.",
    ExitCode.REFUSED: "Refused: the plan is stale, edited or for another target, or another run is at work.",
    ExitCode.VERIFICATION_FAILED: "Verification failed.",
    ExitCode.CREDENTIALS: "The credentials were refused.",
    ExitCode.INTERRUPTED: "Ctrl-C.",
}


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Give every command with the words by which it is called, and a context to describe it in."""
    yield from _below(PROGRAM, cli, click.Context(cli, info_name=PROGRAM, help_option_names=["-h", "--help"]))


def _below(
    words: str, command: click.Command, context: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    yield words, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _below(f"{words} {name}", inner, click.Context(inner, parent=context, info_name=name))


def described(command: click.Command) -> list[str]:
    """Give the paragraphs of a command's help."""
    text = re.sub(r"^\b\n", "", command.help or "", flags=re.MULTILINE)
    return [" ".join(part.split()) for part in text.strip().split("\n\n")]


def options(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    """Give the options of a command as they are written, and what each means."""
    records = (param.get_help_record(context) for param in command.get_params(context))
    return [record for record in records if record is not None and record[1]]


def synopsis(command: click.Command, context: click.Context) -> str:
    """Give what follows the words of a command."""
    return " ".join(command.collect_usage_pieces(context))


def inner_commands(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    """Give the names below a group, and a line for each."""
    if not isinstance(command, click.Group):
        return []
    found = ((name, command.get_command(context, name)) for name in command.list_commands(context))
    return [(name, described(inner)[0]) for name, inner in found if inner is not None and not inner.hidden]


def examples_of(words: str) -> list[tuple[str, str]]:
    """Give the examples of a command: what is typed, and what it does."""
    return [(line, what) for line, what in examples().get(words.removeprefix(PROGRAM).strip(), ())]


# Man pages, in the macros of man(7).


def roff(text: str) -> str:
    """Write a text so that nothing in it is a request of roff; what is not in ASCII by its number."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = "".join(one if ord(one) < 128 else f"\\[u{ord(one):04X}]" for one in text)
    return f"\\&{text}" if text.startswith((".", "\\(aq")) else text


def man_page(words: str, command: click.Command, context: click.Context) -> str:
    """Write the man page of a command."""
    name = words.replace(" ", "-")
    first, *more = described(command)
    lines = [f'.TH "{roff(name).upper()}" 1 "" "{PROGRAM} {__version__}" "{PROGRAM}"']
    lines += [".SH NAME", f"{roff(name)} \\- {roff(first.rstrip('.'))}"]
    lines += [".SH SYNOPSIS", f"\\fB{roff(words)}\\fR {roff(synopsis(command, context))}"]
    lines += [".SH DESCRIPTION", roff(first)]
    for paragraph in more:
        lines += [".PP", roff(paragraph)]
    for title, records in (("COMMANDS", inner_commands(command, context)), ("OPTIONS", options(command, context))):
        lines += [f".SH {title}"] if records else []
        for term, what in records:
            lines += [".TP", f"\\fB{roff(term)}\\fR", roff(what) or "\\&"]
    lines += [".SH EXAMPLES"]
    for line, what in examples_of(words):
        lines += [".TP", f"\\fB{roff(line)}\\fR", roff(what)]
    lines += [".SH EXIT STATUS"]
    for code, what in EXITS.items():
        lines += [".TP", f"\\fB{int(code)}\\fR", roff(what)]
    above = name.rpartition("-" + words.rpartition(" ")[2])[0] if " " in words else ""
    near = [above] if above else []
    near += [f"{name}-{inner}" for inner, _ in inner_commands(command, context)]
    if near:
        lines += [".SH SEE ALSO", ",\n".join(f"\\fB{roff(one)}\\fR(1)" for one in near)]
    return "\n".join(lines) + "\n"


def write_man(folder: Path) -> list[Path]:
    """Fill a folder, which is made again, with a man page for each command."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "man1").mkdir(parents=True)
    written = []
    for words, command, context in commands():
        path = folder / "man1" / f"{words.replace(' ', '-')}.1"
        path.write_text(man_page(words, command, context), "ascii")
        written.append(path)
    return written


# The same as Markdown, all commands on one page.


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _table(head: str, records: list[tuple[str, str]]) -> list[str]:
    rows = [f"| `{term.replace('|', chr(92) + '|')}` | {_cell(what)} |" for term, what in records]
    return ["", f"| {head} | |", "|---|---|", *rows] if rows else []


def markdown() -> str:
    """Write the reference of all commands."""
    lines = ["# Commands", "", f"Version {__version__}. Every command says the same with `--help`."]
    for words, command, context in commands():
        lines += ["", f"## {words}", "", *"\n\n".join(described(command)).replace("<", "&lt;").split("\n")]
        lines += ["", "```console", f"{words} {synopsis(command, context)}", "```"]
        lines += _table("Command", inner_commands(command, context)) + _table("Option", options(command, context))
        lines += ["", "Examples:", ""]
        lines += [f"- `{line}`: {_cell(what)}." for line, what in examples_of(words)]
    lines += ["", "## Exit codes", "", "| Code | |", "|---|---|"]
    lines += [f"| {int(code)} | {what} |" for code, what in EXITS.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the man pages into ``build/man``."""
    written = write_man(ROOT / "build" / "man")
    print(f"{len(written)} man pages in build/man. To read one: man -M build/man {PROGRAM}-erase")
    return 0


if __name__ == "__main__":
    sys.exit(main())
