import pytest

from privacy_toolkit.sandbox.faults import FaultKind, Faults, Outage
from privacy_toolkit.sandbox.store import SandboxSettings


@pytest.fixture(scope="module")
def page(pytestconfig):
    return (pytestconfig.rootpath / "docs" / "sandbox.md").read_text("utf-8")


def names(described):
    return getattr(described, "__struct_fields__", None) or described.__dataclass_fields__


@pytest.mark.parametrize("described", [SandboxSettings, Faults, Outage])
def test_every_setting_has_its_row(page, described):
    assert [name for name in names(described) if f"| `{name}` |" not in page] == []


@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_has_its_row_and_says_whether_it_acts(page, kind):
    row = next(line for line in page.splitlines() if line.startswith(f"| `{kind}` |"))
    assert row.endswith("| yes |" if kind.server_acts else "| no |")
