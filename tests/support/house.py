"""The house rules: what is measured of the whole package, the limits, and where each may be broken.

``python -m tests.support.house`` prints the figures and ends with 1 if one is above its limit; ``make check`` runs it.
"""

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).parents[2]
NAME = "privacy_toolkit"

#: Limits that only ever go down.
MOST_MODULES = 140
MOST_EDGES_PER_THOUSAND_LINES = 22.0
MOST_NAMED_JOBS = 0

#: Where a library may be imported, by the start of a module's path below the package.
ALLOWED_IMPORTS = {
    "click": ("cli/",),
    "rich": ("cli/",),
    # The sandbox has a store of its own; ``core/durable.py`` puts a database file in place that others have filled.
    "sqlite3": ("journal/sqlite/", "sandbox/store.py", "core/durable.py"),
}
#: Where jobs may be named: their own files, and the vocabulary that declares them.
JOBS_NAMED_IN = ("jobs/", "core/model.py")

#: Who may know that a state is a folder: what keeps it there, what opens it by its address, and where that is set.
FOLDER_KNOWN_TO = ("journal/sqlite/", "journal/state.py", "config/")
#: What such a folder holds.
FOLDER_NAMES = frozenset({"runs", "locks", "packs", "chain", "plans", "set-aside"})
#: The interface of the journal, and the store that is on no disk: there are no places of a machine in them.
WITHOUT_PLACES = ("journal/store.py", "journal/ledgers.py", "journal/records.py", "journal/memory/")

#: Retired words: as a word, as part of a snake_case name, and as part of a CamelCase name.
BANNED = re.compile(
    r"(?<![a-z])(?:anew|beside|dealt|dealings?|mend(?:s|ed|ing)?|sittings?|whoever)(?![a-z])"
    r"|(?<=[a-z])(?-i:Anew|Beside|Dealt|Dealing|Mend|Sitting)(?![a-z])",
    re.IGNORECASE,
)
#: Files that keep retired words, and why.
OLD_FILES = {
    "tests/fixtures/": "packs and state folders as former versions made them",
    f"{NAME}/evidence/verify/words.report-2.json": "the words of a released format; packs are verified by them",
    "tests/support/house.py": "names the words in order to find them",
    "docs/glossary.md": "says which words are retired",
    "tests/architecture/test_house.py": "shows what is found and what is not",
}
#: Literals that keep retired words, and why.
OLD_LITERALS = {
    r"dealt\.sqlite": "a file in every state folder",
    r'"dealt"': "the name under which that file's key is kept in the key file",
    r"(?:FROM|INTO|UPDATE|TABLE|table) [`'\"]?sittings": "a table in the journal of every run",
    r"(?:FROM|INTO|EXISTS|ON) dealt(?:_to)?": "a table of that file, and its index",
    r"whoever signed is honest": "a sentence of VERIFY.txt in every pack since the first format",
    r'^_AGAIN_BEFORE = "anew"': "one word of VERIFY.txt up to report/2",
    r"Whoever was answered": "a sentence in the pages of patrols of version 0.2.0",
    r'"sittings(?:_left_out)?"|`sittings(?:_left_out)?`': "members of a report up to report/2, and that table",
}
TEXTS = ("*.py", "*.md", "*.json", "*.toml", "*.html", "*.css", "*.js", "*.sh", "*.txt", "*.yml", "*.yaml", "*.in")
FOLDERS = (NAME, "bench", "docs", "release", "reports", "tests", ".ci", ".github")


@dataclass(frozen=True)
class Module:
    """One module of the package: its dotted name, its path below the package folder, its lines and its syntax tree."""

    name: str
    path: str
    lines: int
    tree: ast.Module = field(repr=False)

    @property
    def has_code(self) -> bool:
        """Whether there is anything besides a docstring."""
        return any(not _is_text(statement) for statement in self.tree.body)

    @property
    def imports(self) -> list[str]:
        """Every dotted name that it imports, at the top or in a function."""
        names = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names += [f"{node.module}.{alias.name}" for alias in node.names]
        return names


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def read_modules(package: Path = ROOT / NAME) -> list[Module]:
    """Parse every module of the package."""
    found = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text("utf-8")
        below = path.relative_to(package)
        dotted = [package.name, *below.with_suffix("").parts]
        name = ".".join(dotted[:-1] if dotted[-1] == "__init__" else dotted)
        found.append(Module(name, below.as_posix(), len(text.splitlines()), ast.parse(text)))
    return found


def import_edges(modules: list[Module]) -> set[tuple[str, str]]:
    """List the pairs of a module and a module of the same package that it imports."""
    known = {module.name for module in modules}
    edges = set()
    for module in modules:
        for name in module.imports:
            target = name if name in known else name.rpartition(".")[0]
            if target in known and target != module.name:
                edges.add((module.name, target))
    return edges


def edges_per_thousand_lines(modules: list[Module]) -> float:
    """Relate the import edges to the size of the package."""
    return 1000 * len(import_edges(modules)) / sum(module.lines for module in modules)


def doubled_classes(modules: list[Module]) -> dict[str, list[str]]:
    """Find class names that exist more than once, with the modules that have them."""
    places = defaultdict(list)
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module.path)
    return {name: paths for name, paths in places.items() if len(paths) > 1}


def misplaced_imports(modules: list[Module]) -> list[str]:
    """Find imports of a library outside the folders that may have it."""
    return [
        f"{module.path} imports {library}"
        for module in modules
        for library in sorted({name.partition(".")[0] for name in module.imports} & ALLOWED_IMPORTS.keys())
        if not module.path.startswith(ALLOWED_IMPORTS[library])
    ]


def named_jobs(modules: list[Module]) -> Counter[str]:
    """Count where a job is named, as ``Job.ERASE``, outside the files of the jobs; by module."""
    counts: Counter[str] = Counter()
    for module in modules:
        if not module.path.startswith(JOBS_NAMED_IN):
            counts[module.path] += sum(
                isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Job" and node.attr.isupper()
                for node in ast.walk(module.tree)
            )
    return +counts


def state_paths(modules: list[Module]) -> list[str]:
    """Find what treats a state as a folder: places in the journal's interface, and paths made from ``settings.state``.

    Elsewhere that may be handed to what ``journal.state`` has, or be shown, and nothing may be looked for by the names
    that the folder has for what it holds.
    """
    found = []
    for module in modules:
        if module.path.startswith(WITHOUT_PLACES):
            found += [f"{module.path} names {name}" for name in ("Path", "pathlib") if name in _names(module.tree)]
        elif not module.path.startswith(FOLDER_KNOWN_TO):
            found += [f"{module.path}:{line}" for line in sorted(_folder_uses(module))]
    return found


def _names(tree: ast.Module) -> set[str]:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {getattr(node, "module", None) or "", *(alias.name for alias in node.names)}
    return names


def _folder_uses(module: Module) -> Iterator[int]:
    """The lines that use ``settings.state`` for more than to open or to show it, or make a path by a name in it."""
    openers = {name.rpartition(".")[2] for name in module.imports if name.startswith(f"{NAME}.journal.state.")}
    allowed: set[ast.AST] = set()
    for node in ast.walk(module.tree):  # what is around is met before what is in it
        if isinstance(node, ast.FormattedValue):
            allowed.add(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in openers:
            allowed.update(node.args)
        elif (_is_settings_state(node) and node not in allowed) or (
            isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and _constant(node.right) in FOLDER_NAMES
        ):
            yield node.lineno


def _is_settings_state(node: ast.AST) -> TypeGuard[ast.Attribute]:
    if not isinstance(node, ast.Attribute) or node.attr != "state":
        return False
    return ast.unparse(node.value).rpartition(".")[2].lstrip("_") == "settings"


def _constant(node: ast.AST) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def texts(root: Path = ROOT) -> Iterator[Path]:
    """Give every file that people read or write, but none of what tools put there."""
    yield from sorted(path for path in root.iterdir() if path.is_file() and path.suffix in {".md", ".toml"})
    yield root / "Makefile"
    for folder in FOLDERS:
        for pattern in TEXTS:
            yield from sorted((root / folder).rglob(pattern))


def banned_in(text: str) -> list[str]:
    """Find the retired words of a text, without the literals that have to stay."""
    for literal in OLD_LITERALS:
        text = re.sub(literal, "", text)
    return [match[0] for match in BANNED.finditer(text)]


def banned_words(root: Path = ROOT) -> list[str]:
    """Find retired words in names of files, in code, comments, messages and documentation."""
    found = []
    for path in texts(root):
        name = path.relative_to(root).as_posix()
        if name.startswith(tuple(OLD_FILES)):
            continue
        found += [f"{name}: the name has {word}" for word in banned_in(name)]
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            found += [f"{name}:{number}: {word}" for word in banned_in(line)]
    return found


@dataclass(frozen=True)
class Figure:
    """One figure of the package against its limit."""

    what: str
    value: float
    limit: float
    where: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether the limit is kept."""
        return self.value <= self.limit


def measure(modules: list[Module], words: list[str]) -> list[Figure]:
    """Measure everything that has a limit."""
    twice = [f"{name}: {', '.join(paths)}" for name, paths in sorted(doubled_classes(modules).items())]
    misplaced, jobs = misplaced_imports(modules), named_jobs(modules)
    places = state_paths(modules)
    naming = [f"{path}: {count}" for path, count in jobs.most_common()]
    return [
        Figure("modules with code", sum(module.has_code for module in modules), MOST_MODULES),
        Figure("import edges per 1,000 lines", edges_per_thousand_lines(modules), MOST_EDGES_PER_THOUSAND_LINES),
        Figure("class names that exist twice", len(twice), 0, twice),
        Figure("imports outside their folders", len(misplaced), 0, misplaced),
        Figure("paths of the state folder", len(places), 0, places),
        Figure("jobs named outside jobs/", jobs.total(), MOST_NAMED_JOBS, naming),
        Figure("retired words", len(words), 0, words),
    ]


def main() -> int:
    """Print each figure with its limit, and what is above one."""
    figures = measure(read_modules(), banned_words())
    for figure in figures:
        sys.stdout.write(f"{figure.what:32} {figure.value:8.4g}   at most {figure.limit:g}\n")
        if not figure.held:
            sys.stdout.writelines(f"    {one}\n" for one in figure.where)
    return 0 if all(figure.held for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
