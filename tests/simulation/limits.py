"""What no client can tell: false claims that rest on the API's own word, each by name and with its reason.

A false claim counts as a limit only where the ledger shows that the lie in question was told about the very subject (or
its coupon); everything else is a violation. docs/simulation.md lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from tests.simulation.ledger import Arrived, Ledger
from tests.simulation.works import EMPTY

if TYPE_CHECKING:
    from tests.simulation.run import Simulation

_COUPONS = frozenset({"reserve", "release", "assign", "holders"})
_LOOKS_NOTHING_UP = frozenset({"referrals", "events", "profiles", "sessions", "audiences"})
_WRONG_404 = frozenset({"false_404", "another_nameless", "wrong_host", "another_environment"})


@dataclass(frozen=True)
class Limit:
    """A limit: which lies, what is claimed because of them (how it begins), for which jobs, and why it can't be told.

    ``only_empty``: for customers with an empty profile alone. ``in_run``: the lie may have been told about anybody.
    ``also``: one of these was told as well. ``wrong_404s``: at least so many answers about it were a wrong 404.
    """

    name: str
    lies: frozenset[str]
    claims: tuple[str, ...]
    jobs: frozenset[str]
    reason: str
    only_empty: bool = False
    in_run: bool = False
    also: frozenset[str] = frozenset()
    wrong_404s: int = 0


LIMITS: tuple[Limit, ...] = (
    Limit(
        "believed_success",
        frozenset({"not_applied", "another_nameless"}),
        ("done, and it was not carried out", "all done, and an earlier row stands", "a code of somebody else"),
        _LOOKS_NOTHING_UP,
        "The API has no way to look up what became of the request: its word for success is all there is.",
    ),
    Limit(
        "believed_204",
        frozenset({"not_applied", "another_nameless"}),
        ("erased, and no request was carried out", "confirmed, and no 204"),
        frozenset({"erase"}),
        "Where erased profiles stay listed, an empty one looks the same before and after: its erasure rests on a 204.",
        only_empty=True,
    ),
    Limit(
        "confirmed_by_a_wrong_204",
        frozenset({"not_applied", "another_nameless"}),
        ("confirmed, and no 204",),
        frozenset({"erase"}),
        "The 204 was not true, and a request before or after it, whose answer was lost, had the effect that was read.",
    ),
    Limit(
        "one_wrong_404_afterwards",
        _WRONG_404,
        ("erased, and data",),
        frozenset({"erase"}),
        "An erasure was accepted and took no effect yet, and the one read afterwards was answered 404 in the API's own"
        " words, wrongly, between controls that held.",
    ),
    Limit(
        "a_wrong_204_and_a_wrong_404",
        frozenset({"not_applied", "another_nameless"}),
        ("erased, and no request was carried out",),
        frozenset({"erase"}),
        "The API itself said 204 and did nothing, and was wrong once more when it was asked afterwards: two wrong"
        " answers about one subject.",
        also=_WRONG_404,
    ),
    Limit(
        "two_wrong_404s",
        frozenset({"false_404", "another_nameless"}),
        ("nothing held", "a program held nothing", "still gone, and it is back", "answered 404, and it is listed"),
        frozenset({"erase", "export", "patrol"}),
        "The API itself answered 404 about somebody it knows, in its own words, and somebody in its place did so when"
        " it was asked again: two wrong answers about one subject, each between controls or profiles that were seen,"
        " and nobody who was absent with it was there by then."
        " What an inventory alone shows of a loyalty program, its cards, is not seen then, either.",
        wrong_404s=2,
    ),
    Limit(
        "another_ledger",
        frozenset({"another_nameless"}),
        ("a program tells more than it had", "a program erased, and nothing was in it", "stays unknown"),
        frozenset({"erase"}),
        "A page of a ledger does not say whose it is. That one is empty is read twice; that there is something"
        " in one is read once, since no more rests on it than that its deletion is asked for.",
    ),
    Limit(
        "another_list",
        frozenset({"another_nameless"}),
        (
            *("another list", "done, and it is not so", "already so", "on hold, though", "more than the budget"),
            "not reserved by the run, and undone",  # it had been reserved before, which that list hid
            "reserved by the run, and not undone",  # and one that shows others leaves no room for who was in doubt
        ),
        _COUPONS,
        "A list of holders does not name its coupon, and this one came in step on a proven connection.",
    ),
    Limit(
        "another_spelling",
        frozenset({"respelled"}),
        ("another list",),
        frozenset({"holders"}),
        "A list of holders is handed on as the API says it, with the ids as they are spelled there.",
    ),
    Limit(
        "another_spelling_of_a_holder",
        frozenset({"respelled"}),
        ("on hold, though",),
        frozenset({"reserve", "assign"}),
        "Ids are compared as they are written: a list that spells one otherwise does not show its reservation.",
    ),
    Limit(
        "another_spelling_after_a_release",
        frozenset({"respelled"}),
        ("done, and it is not so",),
        frozenset({"release"}),
        "An accepted release was not carried out, and the list after it spells the id otherwise.",
        also=frozenset({"not_applied"}),
    ),
    Limit(
        "another_environment_of_coupons",
        frozenset({"another_environment"}),
        ("failed, ",),
        _COUPONS,
        "There is no coupon that is known to be visible, so no positive control for coupons: who accepts the key and"
        " knows no coupon can't be told from the API.",
    ),
    Limit(
        "503_of_its_own",
        frozenset({"own_503"}),
        (
            *("retryable, though", "not done, though", "on hold, though", "a program vanished", "a program not done"),
            *("reserved by the run, and not undone", "nothing held, and there was a profile"),
        ),
        frozenset({"erase", *_COUPONS, *_LOOKS_NOTHING_UP}),
        "The API itself said that it was not done, and it was: whom it knows no more then, it did not erase, it said.",
    ),
    Limit(
        "taught_by_a_wrong_404",
        _WRONG_404 | {"removed", "stale_reads", "shifted", "stray"},
        ("stays residual", "stays unverified", "left open"),
        frozenset({"erase"}),
        "An erased profile was answered 404, and so again when it was asked once more, though this deployment keeps"
        " them listed: since then less is claimed of empty ones, and they stay open.",
        only_empty=True,
        in_run=True,
    ),
)


@dataclass(frozen=True)
class Finding:
    """A bug that the simulation found and that is not fixed yet: which faults it needs, and how its claims begin.

    Counted and told apart from limits: anyone who fixes one takes it out of here.
    """

    name: str
    needs: tuple[frozenset[str], ...]
    claims: tuple[str, ...]
    jobs: frozenset[str]
    what: str


#: Faults that bring an answer that nobody asked for.
_COPIES = frozenset({"duplicate_late", "stray", "shifted", "timed_out_idle"})

FINDINGS: tuple[Finding, ...] = ()


def finding_of(simulation: Simulation, what: str) -> str | None:
    """The name of the open finding that a false claim belongs to, if it does."""
    met = simulation.ledger.faults.keys()
    for one in FINDINGS:
        if (
            what.startswith(one.claims)
            and simulation.spec.job in one.jobs
            and not any(kinds.isdisjoint(met) for kinds in one.needs)
        ):
            return one.name
    return None


def _told_about(ledger: Ledger, keys: Iterable[str]) -> Iterator[Arrived]:
    return (one for key in keys for one in ledger.about.get(key, ()))


def limit_of(simulation: Simulation, what: str, about: str) -> str | None:
    """The name of the limit that a false claim is, if it is one."""
    ledger, play = simulation.ledger, simulation.play
    keys = (about, play.coupon(about))
    told = {lie for key in keys for lie in ledger.lies.get(key, ())}
    wrong = sum(one.status == HTTPStatus.NOT_FOUND and one.fault in _WRONG_404 for one in _told_about(ledger, keys))
    for limit in LIMITS:
        lies = ledger.faults.keys() if limit.in_run else told
        if (
            not limit.lies.isdisjoint(lies)
            and not (limit.also and limit.also.isdisjoint(lies))
            and what.startswith(limit.claims)
            and simulation.spec.job in limit.jobs
            and wrong >= limit.wrong_404s
            and not (limit.only_empty and play.kind_of(about) != EMPTY)
        ):
            return limit.name
    return None
