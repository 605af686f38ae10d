"""What a module may not reach for: the screen outside cli; the clock and chance where they have to be injected.

Only calls are looked for. A default such as ``clock: Callable[[], float] = time.monotonic`` names the function, or
wraps it in a lambda, and leaves the call to anyone who injects another, which is the way wanted here.
"""

import ast
from collections.abc import Iterator

INJECTED_IN = ("app/", "http/", "talonone/", "engine/", "journal/", "reporting/", "evidence/", "notify/")
CLOCKS = {
    *(f"time.{name}{suffix}" for name in ("time", "monotonic", "perf_counter") for suffix in ("", "_ns")),
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "time.sleep",
}
CHANCE = {"uuid.uuid1", "uuid.uuid4"}
OWN_GENERATORS = {"random.Random", "random.SystemRandom"}


def imported_names(tree: ast.Module) -> dict[str, str]:
    """Every name that an import binds, with the dotted name it stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def in_defaults(tree: ast.Module) -> set[ast.AST]:
    """Everything inside a lambda that is the default of a parameter or of a field."""
    defaults: list[ast.expr | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            defaults += node.defaults + node.kw_defaults
        elif isinstance(node, ast.AnnAssign):
            defaults.append(node.value)
    return {inner for default in defaults if isinstance(default, ast.Lambda) for inner in ast.walk(default)}


def calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each call, made on the spot, whose name can be told from the text."""
    names, injected = imported_names(tree), in_defaults(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node not in injected:
            first, dot, rest = ast.unparse(node.func).partition(".")
            yield node.lineno, names.get(first, first) + dot + rest


def reaches_for_clock_or_chance(name: str) -> bool:
    return name in CLOCKS | CHANCE or (name.startswith("random.") and name not in OWN_GENERATORS)


def test_the_check_itself_tells_a_call_from_a_default():
    tree = ast.parse(
        "import random, time\nfrom datetime import UTC, datetime as moment\nfrom time import monotonic as now\n"
        "def wait(clock=time.monotonic, draw=random.Random().random): return clock()\n"
        "class Steps: clock: object = lambda: time.time() / 2\n"
        "def bad(): return now(), moment.now(UTC), random.random()\n"
    )
    assert sorted(name for _, name in calls(tree) if reaches_for_clock_or_chance(name)) == [
        "datetime.datetime.now",
        "random.random",
        "time.monotonic",
    ]


def test_clock_and_chance_are_injected(modules):
    assert [
        f"{module.path}:{line} calls {name}"
        for module in modules
        if module.path.startswith(INJECTED_IN)
        for line, name in calls(module.tree)
        if reaches_for_clock_or_chance(name)
    ] == []


def test_only_the_commands_print(modules):
    assert [
        f"{module.path}:{line}"
        for module in modules
        if not module.path.startswith("cli/")
        for line, name in calls(module.tree)
        if name in {"print", "sys.stdout.write", "sys.stderr.write"}
    ] == []
