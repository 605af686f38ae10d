"""The event loop of an execution, and what it keeps to itself."""

import logging
import socket

import pytest

from privacy_toolkit.engine.execution import _loop_factory


@pytest.fixture
def loop():
    pytest.importorskip("uvloop")
    made = _loop_factory()()
    yield made
    made.close()


def test_a_name_looked_up_in_vain_that_nobody_waits_for_is_said_nowhere(loop, caplog):
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with caplog.at_level(logging.DEBUG):
        loop.call_exception_handler({"message": "Future exception was never retrieved", "exception": error})
    assert caplog.text == ""


def test_anything_else_that_nobody_waits_for_is_said(loop, caplog):
    loop.call_exception_handler({"message": "Task exception was never retrieved", "exception": ValueError("a bug")})
    assert "a bug" in caplog.text
