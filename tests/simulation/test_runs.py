"""20,000 subjects in runs of all jobs under all faults: nothing false is said, everything ends, and much goes wrong."""

import msgspec
import pytest

from privacy_toolkit.core.model import Job
from tests.simulation.campaign import Tally, command, play, play_seeds
from tests.simulation.expected import missing_faults
from tests.simulation.faults import FAULTS, Place
from tests.simulation.spec import A_DAY, Happening, Spec, spec_of, spec_with
from tests.support.lengths import IS_LONG

#: So many parts of so many subject-runs each; the seeds of a part are so many apart.
PARTS, SUBJECTS = 10, 2_000
#: So many subjects with something next to their profile, in each of four parts.
BESIDES = 4_000 if IS_LONG else 320
#: Of what is next to a profile, what each part comes to.
SURE = {
    Job.ERASE: {
        *("ledger erased", "ledger nothing_held", "ledger unverified", "ledger confirmed", "ledger inferred"),
        *("cards erased", "cards nothing_held", "cards confirmed"),
    },
    Job.EXPORT: {
        *("ledger complete", "card complete", "achievements complete", "session complete"),
        *("session of_another", "session of_nobody", "session refused"),
    },
}


def failing_of(result):
    tally = Tally()
    tally.add(result)
    return failing(tally)


def failing(tally):
    return [(spec.seed, violation.what, command(spec)) for spec, violation in tally.failing]


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_false_is_said_and_every_run_ends(part):
    tally = play_seeds(1_000_000 + part, PARTS, SUBJECTS)
    assert failing(tally) == []
    assert len(tally.faults) >= 40
    assert {outcome for _, outcome in tally.outcomes} >= {"erased", "done", "nothing_held", "on_hold"}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_met_and_alone_makes_nothing_false(name):
    tally = Tally()
    for seed in range(2 if IS_LONG else 1):
        tally.add(play(spec_with(name, seed)))
    assert failing(tally) == []
    assert missing_faults(tally, [name]) == []


@pytest.mark.parametrize("part", range(2))
def test_a_patrol_says_of_nobody_what_was_not_seen(part):
    tally = Tally()
    for seed in range(3_000_000 + part, 3_000_040, 2):
        spec = spec_of(seed, Job.PATROL)
        tally.add(play(msgspec.structs.replace(spec, positive=True)))
    assert failing(tally) == []
    assert {outcome for _, outcome in tally.outcomes} >= {"done", "reappeared"}


def besides(seed, job, *, first=False):
    return msgspec.structs.replace(spec_of(seed, job, first=first), besides=True)


@pytest.mark.parametrize("job", [Job.ERASE, Job.EXPORT])
@pytest.mark.parametrize("part", range(4))
def test_what_is_next_to_a_profile_is_deleted_or_handed_over_as_it_is_said(job, part):
    tally, seed = Tally(), 4_000_000 + part
    while tally.subjects < BESIDES:
        tally.add(play(besides(seed, job)))
        seed += 4
    assert failing(tally) == []
    assert not SURE[job] - {name for _, name in tally.parts}


@pytest.mark.parametrize(
    ("seed", "job"),
    [
        (107, Job.EXPORT),  # a late copy of a refusal, on a connection that nothing vouches for
        (185, Job.ERASE),  # a card that the API said it had not unlinked, and had
        (216, Job.ERASE),  # one page of somebody else's ledger, about a customer without any
        (227, Job.ERASE),
        (304, Job.ERASE),
        (4_000_035, Job.ERASE),  # a page of another ledger, on a connection that is out of step
    ],
)
def test_what_was_said_wrongly_once_is_not_any_more(seed, job):
    tally = Tally()
    tally.add(play(besides(seed, job, first=True)))
    assert failing(tally) == []


def test_a_ledger_whose_deletion_got_the_503_of_another_request_is_not_said_to_be_left():
    spec = spec_of(9482, first=True)
    assert spec.besides
    assert failing_of(play(spec)) == []


@pytest.mark.parametrize(
    ("job", "has_more"), [(Job.ERASE, False), (Job.ERASE, True), (Job.RESERVE, False), (Job.ASSIGN, False)]
)
def test_a_refusal_for_now_that_nobody_asked_for_leaves_what_was_sent_in_doubt(job, has_more):
    tally, stray = Tally(), {"stray_refusal": 0.15}
    for seed in range(20):
        stops = [] if seed % 3 else [Happening(0, 0.05 + 0.02 * seed, "terminated", 1.0)]
        plain = Spec(seed=seed, job=job, subjects=40, faulty=1, heals=seed % 2 > 0, rates=stray, happenings=stops)
        quick = msgspec.structs.replace(plain, rate=1e6, settle=0.5, latency=(0.0001, 0.001), retry_after=0)
        crashes = [400 + 60 * seed] if seed % 3 else []
        changed = {"crashes": crashes, "concurrency": (2, 4, 8, 16)[seed % 4], "besides": has_more}
        tally.add(play(msgspec.structs.replace(quick, **changed)))
    assert failing(tally) == []
    assert tally.faults["stray_refusal"] > 20


def test_an_event_that_was_refused_is_sent_again_more_than_a_day_later():
    """Nothing was carried out, so it does not matter for how long the API remembers its key."""
    refused = [Happening(0, 0.05, "no_right", 10.0)]
    result = play(Spec(seed=2, job=Job.EVENTS, subjects=30, faulty=1, happenings=refused, rate=200.0, gap=A_DAY))
    assert failing_of(result) == []
    assert result.outcomes == {"done": 30}
    assert result.faults["no_right"]


def test_an_event_with_an_id_that_a_proxy_sent_twice_is_not_said_to_be_lost_by_its_409():
    tally = Tally()
    for seed in range(30):
        stops = [Happening(0, 0.06 + 0.02 * seed, "dropped", 1.0)]
        twice = {"repeated": 0.3, "error_500": 0.3}
        spec = Spec(seed=seed, job=Job.EVENTS, subjects=20, faulty=1, heals=False, rates=twice, happenings=stops)
        tally.add(play(msgspec.structs.replace(spec, api="v3", latency=(0.01, 0.1))))
    assert failing(tally) == []
    assert tally.faults["repeated"] > 10


def test_a_refusal_of_several_pairs_that_was_anothers_leaves_them_in_doubt():
    wrong = {"duplicate_late": 0.1, "stray": 0.05, "http10": 0.1, "close": 0.1}
    spec = Spec(seed=0, job=Job.RESERVE, subjects=40, faulty=1, rates=wrong, rate=1e6, latency=(0.0001, 0.001))
    assert failing_of(play(spec)) == []


@pytest.mark.parametrize(("seeds", "has_more"), [((5, 29, 41, 45, 51), False), ((35, 53), True)])
def test_a_204_that_nobody_asked_for_is_no_word_for_an_erasure(seeds, has_more):
    """Not after a crash either, and not of an empty profile that looks as it did before."""
    tally, wrong = Tally(), {"stray_204": 0.15, "error_503": 0.15, "drop_before": 0.1, "own_400": 0.1}
    for seed in seeds:
        stops = [] if seed % 3 else [Happening(0, 0.05 + 0.02 * seed, "terminated", 1.0)]
        plain = Spec(seed=seed, job=Job.ERASE, subjects=40, faulty=1, rates=wrong, happenings=stops, besides=has_more)
        crashes = [400 + 60 * seed] if seed % 3 else []
        changed = {"crashes": crashes, "settle": 0.5, "latency": (0.001, 0.1), "rate": 1e6, "retry_after": 0}
        drawn = {"verify": ("all", "none", "sample:5")[seed % 3], "concurrency": (2, 4, 8, 16)[seed % 4]}
        tally.add(play(msgspec.structs.replace(plain, erase_delay=2, **changed, **drawn)))
    assert failing(tally) == []
    assert tally.faults["stray_204"] > 20


@pytest.mark.parametrize("job", [Job.ERASE, Job.RESERVE, Job.ASSIGN, Job.REFERRALS, Job.PROFILES])
def test_a_late_copy_of_the_401_of_a_control_is_no_refusal_of_what_was_sent(job):
    tally, late = Tally(), {"duplicate_late": 0.25}
    for seed in range(10):
        plain = Spec(
            seed=seed, job=job, subjects=24, faulty=1, heals=False, rates=late, latency=(0.0001, 0.001), rate=1e6
        )
        tally.add(play(plain))
    assert failing(tally) == []
    assert tally.faults["duplicate_late"] > 20


@pytest.mark.parametrize("job", [Job.ERASE, Job.RELEASE, Job.EXPORT, Job.HOLDERS])
def test_a_late_copy_of_the_401_of_a_control_refuses_no_credentials(job):
    """Each run has to settle all in a world that is well, and none may say that its key was refused."""
    tally, late = Tally(), {"duplicate_late": 0.25}
    for seed in (3, 4, 10, 15, 20):
        tally.add(play(Spec(seed=seed, job=job, subjects=24, faulty=1, rates=late, latency=(0.0001, 0.001), rate=1e6)))
    assert failing(tally) == []
    assert tally.faults["duplicate_late"] > 20


@pytest.mark.parametrize("job", [Job.ERASE, Job.RESERVE, Job.EVENTS])
def test_an_end_that_comes_while_a_connection_is_out_of_step_proves_nothing(job):
    tally, ending = Tally(), {"duplicate_late": 0.1, "stray": 0.05, "http10": 0.1, "close": 0.1}
    for seed in range(8):
        tally.add(
            play(Spec(seed=seed, job=job, subjects=40, faulty=1, rates=ending, latency=(0.0001, 0.001), rate=1e6))
        )
    assert failing(tally) == []
    assert tally.faults["close"] > 5


@pytest.mark.parametrize("job", [Job.PROFILES, Job.SESSIONS, Job.EVENTS])
def test_a_late_copy_about_the_same_customer_or_of_a_refusal_says_nothing_of_the_next_row(job):
    tally, copies = Tally(), {"duplicate_late": 0.1, "retry_date": 0.1, "own_409": 0.05}
    for seed in range(16):
        plain = Spec(
            seed=seed, job=job, subjects=60, faulty=1, heals=seed % 2 > 0, rates=copies, rate=1e6, retry_after=0
        )
        tally.add(play(plain))
    assert failing(tally) == []
    assert tally.faults["duplicate_late"] > 20


@pytest.mark.parametrize(("job", "seeds"), [(Job.SESSIONS, (5, 7, 13)), (Job.PROFILES, (21, 35, 39))])
def test_what_was_refused_by_the_answer_to_another_request_is_not_carried_out_after_the_next_row(job, seeds):
    """It was done when it was sent again; that the first request comes late would undo what the next row says."""
    tally, late = Tally(), {"stray_refusal": 0.17, "applied_late": 0.2}
    for seed in seeds:
        plain = Spec(seed=seed, job=job, subjects=40, faulty=1, rates=late, late=5.0, rate=2000.0, retry_after=0)
        tally.add(play(plain))
    assert failing(tally) == []
    assert tally.faults["late"] > 20


@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize(("job", "every"), [(Job.PROFILES, 4), (Job.REFERRALS, 2), (Job.AUDIENCES, 1)])
def test_of_rows_that_go_out_together_nothing_is_said_that_was_not_answered_of_each(job, every, part):
    """With seeds of which every fourth, or every second, sends rows together: see the plays of these jobs."""
    tally = Tally()
    for n in range(part, 60, 2):
        seed = 5_000_000 + n * every + (job is Job.REFERRALS)
        tally.add(play(spec_of(seed, job)))
    assert failing(tally) == []
    assert {outcome for _, outcome in tally.outcomes} >= {"done", "on_hold"}


def test_there_are_more_than_forty_kinds_of_fault_in_every_place():
    assert len(FAULTS) > 70
    assert {one.place for one in FAULTS.values()} == set(Place)
