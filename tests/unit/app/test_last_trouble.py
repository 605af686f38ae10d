"""What is said of a run whose journal can't be read at the end: what went wrong first."""

from pathlib import Path
from types import SimpleNamespace

from privacy_toolkit.app import service
from privacy_toolkit.core.model import ExitCode, JournalError


def _out_of_reach(_):
    raise JournalError("The database of the state can't be reached.")


def _carrying(monkeypatch):
    monkeypatch.setattr(service, "failed", lambda *_: None)
    monkeypatch.setattr(service, "pack_folder", lambda *_: Path("pack"))
    state = SimpleNamespace(open=_out_of_reach)
    duty = SimpleNamespace(state=state, settings=None, execution=None, host=SimpleNamespace(say=print), clock=lambda: 1)
    live = SimpleNamespace(line=lambda *_, **__: None, failed=lambda: None)
    return service._Carrying("run", duty, live)


def test_where_the_journal_is_out_of_reach_at_the_end_it_is_said_what_is_not_noted_in_it(monkeypatch):
    carrying = _carrying(monkeypatch)
    carrying.trouble.append(JournalError("The end of this execution is not noted in it."))
    error, code = carrying.with_error(JournalError("The database of the state can't be reached.")).error
    assert (error.message, code) == ("The end of this execution is not noted in it.", ExitCode.STOPPED)
    error, _ = _carrying(monkeypatch).with_error(JournalError("The database is gone.")).error
    assert error.message == "The database is gone."
