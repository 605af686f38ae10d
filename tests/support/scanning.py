"""The figures of a run, counted by going through all of its subjects: what its counters have to come to."""

from collections import Counter, defaultdict
from datetime import date

from privacy_toolkit.core.model import (
    MAY_BE_DONE,
    NEVER_SENT,
    OPEN_OUTCOMES,
    Gone,
    HeldBefore,
    Outcome,
    Purpose,
    Reason,
)
from privacy_toolkit.journal.figures import AnswerTime, HoldCount, SettledRequests, StateCount
from privacy_toolkit.journal.records import PENDING, OpenRequests, Traffic

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND


def nulls_first(key):
    """What puts values in order of which any may be None."""
    return [(part is not None, part) for part in key]


class Scan:
    """All subjects of a run, read one by one."""

    def __init__(self, run):
        self.entries = list(run.entries())
        self.requests = {row.subject.seq: row.request for row in run.rows() if row.request is not None}
        self.states = [entry.state for entry in self.entries]
        self.known = [state for state in self.states if state != PENDING]
        self.exchanges = [(entry, one) for entry in self.entries for one in entry.exchanges]

    def totals(self):
        found = Counter(state.outcome for state in self.states)
        return {outcome: found[outcome] for outcome in Outcome if found[outcome]}

    def state_counts(self):
        groups = defaultdict(list)
        for state in self.known:
            groups[state.outcome, state.reason, state.attribution, state.held_before].append(state)
        return tuple(
            StateCount(
                *key,
                len(found),
                sum(s.attempts > 1 for s in found),
                sum(max(s.attempts - 1, 0) for s in found),
                sum(bool((s.first_count or 0) + (s.second_count or 0)) for s in found),
                sum(s.first_count or 0 for s in found),
                sum(s.second_count or 0 for s in found),
            )
            for key, found in sorted(groups.items(), key=lambda item: nulls_first(item[0]))
        )

    def holds(self):
        held = defaultdict(list)
        for state in self.known:
            if state.outcome is Outcome.ON_HOLD:
                held[state.hold_reason or ""].append(state.review_on)
        ordered = sorted(held.items(), key=lambda item: (-len(item[1]), item[0]))
        return tuple(
            HoldCount(reason, len(days), min((day for day in days if day is not None), default=None))
            for reason, days in ordered
        )

    def open_requests(self):
        days = Counter(
            (request.requested_on, request.due_on)
            for seq, request in self.requests.items()
            if request.requested_on is not None and self.states[seq - 1].outcome in OPEN_OUTCOMES
        )
        ordered = sorted(days.items(), key=lambda item: (item[0][1] is None, item[0][1] or "", item[0][0]))
        return [OpenRequests(*key, count) for key, count in ordered]

    def settled(self):
        in_time = late = 0
        for seq, request in self.requests.items():
            state = self.states[seq - 1]
            counts = state.outcome in {Outcome.ERASED, Outcome.NOTHING_HELD, Outcome.DONE}
            if counts and request.due_on is not None and state.settled_at is not None:
                due = (date.fromisoformat(request.due_on) - date(1970, 1, 1)).days
                in_time += state.settled_at // _DAY <= due
                late += state.settled_at // _DAY > due
        return SettledRequests(in_time, late)

    def done_reasons(self):
        return dict(Counter(state.reason for state in self.states if state.outcome is Outcome.DONE))

    def gone(self):
        had_one = [state for state in self.states if state.reason is not Reason.LEDGER_ALONE]
        erased = [state for state in had_one if state.outcome is Outcome.ERASED]
        if any(state.first_count is None for state in erased):
            return Gone.ABSENT
        return Gone.EMPTIED if any(state.held_before is HeldBefore.VISIBLE for state in erased) else None

    def last_lost_at(self):
        """Of who was sent for again, or stays in doubt, no answer is surely its own."""
        found = []
        for entry in self.entries:
            acts = [one for one in entry.exchanges if one.purpose is Purpose.ACT and one.intent_at is not None]
            lost = [
                one for one in acts if one.ended_at is None or (one.status or 0) >= 500 or one.reason in MAY_BE_DONE
            ]
            sent = [one for one in acts if one.reason not in NEVER_SENT]
            is_open = entry.state.outcome is Outcome.UNKNOWN
            again = sent[:-1] if entry.state.attempts > 1 else []
            found += [*lost, *(sent if is_open else again)]
        return max((one.intent_at if one.ended_at is None else one.ended_at for one in found), default=None)

    def repeats(self):
        ends, again = Counter(), Counter()
        for entry in self.entries:
            for place, one in enumerate(entry.exchanges):
                if one.carrier is None:
                    end = (one.operation, one.purpose, one.status, one.reason, one.ended_at is None)
                    ends[end] += 1
                    again[end] += one.reason not in NEVER_SENT and any(
                        (before.purpose, before.operation) == (one.purpose, one.operation)
                        and before.reason not in NEVER_SENT
                        for before in entry.exchanges[:place]
                    )
        return {Traffic(*end, ends[end]): again[end] for end in ends}

    def answer_times(self):
        times = Counter(
            (one.operation, one.elapsed // 1000)
            for _, one in self.exchanges
            if one.carrier is None and one.elapsed is not None and one.status is not None
        )
        return tuple(AnswerTime(*key, count) for key, count in sorted(times.items()))

    def begun(self):
        """The moments at which requests were begun that count in the pace, in order."""
        sent = [one for _, one in self.exchanges if one.carrier is None and one.reason not in NEVER_SENT]
        return sorted(at for at in map(_begun, sent) if at is not None)

    def moments(self):
        """When the first request was begun, and when the last answer came."""
        sent = [one for _, one in self.exchanges if one.reason not in NEVER_SENT]
        firsts = [_begun(one) if one.intent_at is None else one.intent_at for one in sent]
        return (
            min((at for at in firsts if at is not None), default=None),
            max((one.ended_at for one in sent if one.ended_at is not None), default=None),
        )


def _begun(one):
    return one.intent_at if one.ended_at is None or one.elapsed is None else one.ended_at - one.elapsed
