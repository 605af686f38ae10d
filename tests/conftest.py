"""What every test stands on: its own surroundings, one set of hypothesis profiles, and a browser where there is one."""

import gc
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

#: Names under which Debian, other distributions and the vendor install the browser.
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
#: With these set, a request to the loopback interface could leave the machine.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
IN_CI = os.environ.get("CI") == "true"

# No deadline: a slow machine is not a defect. In CI the same examples every time, and how to repeat a failing one.
settings.register_profile("development", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if IN_CI else "development")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the browser, so that ``-m "not browser"`` leaves it out."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


def pytest_collection_finish() -> None:
    """Keep ten thousand tests out of the garbage collector's way: it would look through them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the settings nor the state of the one who runs the tests has a part in them, nor in subprocesses."""
    for name in list(os.environ):
        if name.startswith("PRIVACY_TOOLKIT_") or name.upper() in PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", str(tmp_path / "state"))
    for folder in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{folder}_HOME", str(tmp_path / "xdg" / folder.lower()))


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; without one the test is skipped, and fails in CI."""
    return _needed(BROWSERS, "no Chromium found: install the package chromium to run the browser tests")


@pytest.fixture(scope="session")
def ssh_keygen() -> str:
    """The path of ssh-keygen; without it the test is skipped, and fails in CI."""
    return _needed(("ssh-keygen",), "no ssh-keygen found: install the package openssh-client to run these tests")


@pytest.fixture(scope="session")
def age() -> str:
    """The path of age, next to which age-keygen stands; without it the test is skipped, and fails in CI."""
    return _needed(("age",), "no age found: install the package age to run the tests of encrypted packages")


@pytest.fixture(scope="session")
def systemd_analyze() -> str:
    """The path of systemd-analyze; without it the test is skipped, and fails in CI."""
    return _needed(("systemd-analyze",), "no systemd-analyze found: install the package systemd to check the units")


def _needed(names: tuple[str, ...], reason: str) -> str:
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        if IN_CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return path
