"""The command blocks of a page, and somebody who types them in its order and answers what is asked."""

import ast
import asyncio
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from privacy_toolkit.sandbox.wire import seed

ROOT = Path(__file__).parents[2]
#: Decision records tell of their day; samples are made by `make tour` and `make bench`. The README has its own test.
PAGES = {
    str(path.relative_to(ROOT / "docs")): path
    for path in sorted((ROOT / "docs").rglob("*.md"))
    if not {"adr", "samples"} & set(path.parts)
}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4,}(?=privacy-toolkit ).*\n)+", re.MULTILINE)
LANGUAGES = frozenset({"", "sh", "bash", "console", "python"})
#: What only a shell can do with a command.
SHELL = re.compile(r"[|<>]|&&|\$\(")
OUTLINE = re.compile(r"\[[-A-Z]|\[options\]|\|--|\w\|\.")
LIMIT = 60  # seconds after which a hanging command is a failure


@dataclass(frozen=True)
class Block:
    """A block of a page that is typed, shown or run: where it is, its language, and its lines."""

    page: str
    start: int
    language: str
    body: str

    @property
    def key(self) -> tuple[str, str]:
        """The page and the first line, by which tables name it."""
        return self.page, re.split(r"   |,privacy", self.body.strip().splitlines()[0])[0].strip()

    def lines(self) -> list[str]:
        """Give what is typed: without prompts, comments and descriptions, a continued line in one."""
        body = re.sub(r"\\\n|\n {20,}(?=\[)", " ", self.body)
        typed = [re.split(r"\s{2,}#|\s{3,}(?=\w)", line.strip())[0].removeprefix("$ ") for line in body.splitlines()]
        if self.language == "console" or self.body.lstrip().startswith("$ "):
            shown = iter(self.body.splitlines())
            return [line.removeprefix("$ ") for line in shown if line.startswith("$ ")]
        return [line for line in typed if line]


def blocks(page: str) -> list[Block]:
    """Give the blocks of a page that are commands, or may be, in its order."""
    text = PAGES[page].read_text("utf-8")
    found = [
        Block(
            page, match.start(), match.group(2), re.sub(rf"^{match.group(1)}", "", match.group(3), flags=re.MULTILINE)
        )
        for match in FENCE.finditer(text)
        if match.group(2) in LANGUAGES
    ]
    rest = FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    found += [Block(page, match.start(), "", match.group()) for match in INDENTED.finditer(rest)]
    return sorted(found, key=lambda block: block.start)


def variants(line: str) -> list[str]:
    """Give the calls that an outline stands for: without what is optional, and with each of that on its own."""
    line = re.sub(r"\s*\[options\]", "", line)
    kinds = re.search(r"FILE\.\w+(?:\|\.\w+)+", line)
    if kinds is not None:
        named = kinds.group().removeprefix("FILE").split("|")
        return [found for kind in named for found in variants(line.replace(kinds.group(), f"FILE{kind}"))]
    either = re.search(r"(?<![\[|\w-])--[a-z-]+(?:\|--[a-z-]+(?: [A-Z]+)?)+", line)
    if either is not None:
        return [found for one in either.group().split("|") for found in variants(line.replace(either.group(), one))]
    base = " ".join(re.sub(r"\[.*?\]", "", line).split())
    found = [base]
    for optional in re.finditer(r"\[(.*?)\]", line):
        kept = line[: optional.start()] + "\0" + line[optional.end() :]
        rest = " ".join(re.sub(r"\[.*?\]", "", kept).split())
        choices = optional.group(1).split("|") if optional.group(1).startswith("--") else [optional.group(1)]
        if " " in choices[0]:  # `--lang en|de` is one option with a choice of values
            choices = [choices[0]]
        found += [rest.replace("\0", choice) for choice in choices]
    return found


@dataclass
class Home:
    """A folder with a state, the sandbox, and anyone who types there."""

    folder: Path
    nursery: object
    sandbox: object
    environment: dict[str, str]
    says: dict[str, str | Callable[[], str]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    names: dict[str, object] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)
    endless: tuple[str, ...] = ()
    next_to_it: tuple[str, ...] = ()
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def target(self) -> str:
        """Host and port of the sandbox."""
        return self.sandbox.base_url.removeprefix("http://")

    @property
    def number(self) -> int:
        """Count, for a name that nobody has yet."""
        return next(self._numbers)

    def people(self, many: int = 2) -> list[str]:
        """Make customers that no other command knows; their ids."""
        return seed(self.sandbox.store, many, ids=[f"{self.folder.name}-{self.number}" for _ in range(many)])

    def file(self, name: str, *rows: str) -> str:
        """Write a text file of lines; its name."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text("\n".join(rows) + "\n", "utf-8")
        return name

    def request_list(self, name: str = "") -> str:
        """Write a list of two new customers; its name."""
        rows = [f"{one},2026-11-20" for one in self.people()]
        return self.file(name or f"requests-{self.number}.csv", "customer_id,requested_at", *rows)

    def pack(self) -> str:
        """Give the newest pack."""
        return str(max((self.folder / "state" / "packs").iterdir()))

    def filled_in(self, line: str) -> str:
        """Give the line with what its words stand for."""
        for word, value in self.says.items():
            pattern = rf"(?<![\w./-]){word}(?![\w-])" if re.fullmatch(r"\w+", word) else re.escape(word)
            line = re.sub(pattern, lambda _, value=value: value if isinstance(value, str) else value(), line)
        return line

    def fork(self, words: list[str]):
        """Start a command and don't wait for it."""
        return self.nursery.start(words, self.environment, self.folder)

    def call(self, line: str, code: int = 0):
        """Type a line; a person answers what it asks. It ends with the exit code that was promised."""
        words = [self._expanded(word) for word in shlex.split(line)][1:]
        if line in self.endless:
            return self._until_ctrl_c(words, code)
        if line in self.next_to_it:
            self._leave_running(words)
            return None
        done = self.fork(words).done(LIMIT)
        if done.code == 2 and "onfirm" in done.err and "--confirm" not in words:
            asked = re.search(r'--confirm "([^"]+)"|--confirm (yes)\b', done.err)
            if asked is None or "TARGET" in asked.group():  # it is told once something else was typed
                told = self.fork([*words, "--confirm", "?"]).done(LIMIT)
                asked = re.search(r'It is: --confirm (?:"([^"]+)"|(\w+))', told.err)
                assert asked, done.err + told.err
            done = self.fork([*words, "--confirm", asked.group(1) or asked.group(2)]).done(LIMIT)
        assert done.code == code, f"{line}: exit code {done.code}, not {code}\n{done.out}{done.err}"
        return done

    def _expanded(self, word: str) -> str:
        return word.replace("~", self.environment["HOME"], 1) if word.startswith("~/") else word

    def _leave_running(self, words: list[str]) -> None:
        started = self.fork(words)
        self.stack.callback(started.done, LIMIT)
        self.stack.callback(started.send_signal, signal.SIGINT)
        while json.loads(self.call("privacy-toolkit runs show latest --json").out)["verdict"] != "complete":
            assert started.poll() is None

    def _until_ctrl_c(self, words: list[str], code: int) -> None:
        started = self.fork(words)
        first = started.stdout.readline()
        started.send_signal(signal.SIGINT)
        done = started.done(LIMIT)
        assert done.code == code, f"{words}: exit code {done.code}, not {code}\n{first}{done.out}{done.err}"

    def shell(self, text: str, code: int = 0) -> str:
        """Give a block to a shell, which ends at the first command that fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == code, f"{text}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def type(self, block: Block) -> None:
        """Type a block line by line, each in the program or, where it takes one, in a shell; run one of Python."""
        if block.language == "python":
            run_python(block.body, self)
            return
        for line in block.lines():
            for variant in variants(line) if OUTLINE.search(line) else [line]:
                code = next((code for start, code in self.codes.items() if variant.startswith(start)), 0)
                typed = self.filled_in(variant)
                if typed.startswith("privacy-toolkit ") and not SHELL.search(typed):
                    self.call(typed, code)
                else:
                    self.shell(typed, code)


def run_python(body: str, home: Home) -> None:
    """Run a block of Python, which may await at its top; what the home has in ``names`` is there already."""
    code = compile(home.filled_in(body), "a block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waits = eval(code, dict(home.names))  # noqa: S307 - a page of ours
    if asyncio.iscoroutine(waits):
        asyncio.run(waits)


def program(folder: Path) -> Path:
    """Write ``privacy-toolkit`` for a shell: the one of this Python; the folder that goes on PATH."""
    folder.mkdir()
    script = folder / "privacy-toolkit"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m privacy_toolkit "$@"\n', "utf-8")
    script.chmod(0o755)
    return folder
