"""Months in the office of a marketing team, drawn from a seed; what is checked besides: coupons and who has them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from privacy_toolkit.sandbox.store import EntityKind
from privacy_toolkit.sandbox.wire import seed_codes
from tests.support.office import CODES, OPEN, PEOPLE, Office, lines_of


def _pair(one: dict) -> tuple[str, str]:
    return one.get("coupon_value", ""), one["id"]


class Shop(Office):
    """The same with somebody who gives coupons to customers."""

    def __init__(self, folder: Path, number: int, monkeypatch) -> None:
        super().__init__(folder, number, monkeypatch)
        self.codes = [*seed_codes(self.sandbox.store, 8), "NO-SUCH-1"]

    def deeds(self) -> dict[Callable[[], None], int]:
        """What can be done next, and how often it is."""
        return {
            self.assign: 5,
            self.reserve: 4,
            self.release: 2,
            self.go_on: 5,
            self.undo: 3,
            self.pool: 2,
            self.holders: 2,
            self.status: 1,
            self.others: 1,
            self.erase: 1,
            self.purge: 1,
            self.wait: 1,
            self.weather: 3,
            self.write_outcomes: 1,
        }

    def _codes(self) -> Path:
        codes = self.random.sample(self.codes, self.random.randint(3, 9))
        path = self.folder / f"codes-{len(self.log)}.csv"
        budgets = self.random.random() < 0.4
        lines = [f"{code},{self.random.randint(1, 3)}" if budgets else code for code in codes]
        path.write_text("\n".join(["coupon_value,budget" if budgets else "coupon_value", *lines]) + "\n")
        return path

    def _act(self, *words: object) -> None:
        """Do something about coupons; what it changed at the API has to be what it says."""
        before = self.reserved()
        was = {_pair(one): one["outcome"] for one in self.subjects(words[2])} if words[1] == "resume" else {}
        done = self.run(*words, "--quiet", "--json", allowed=CODES)
        self.sandbox.wait_until_quiet()
        after = self.reserved()
        shown = done.json
        if "error" in shown:
            self.log[-1] += " " + shown["error"]["message"]
            if before != after:
                self.fail(f"an error, and {before ^ after} changed")
            return
        self.log[-1] += f" {shown['run_id'][-9:]} {shown['outcomes']} {shown['verdict']}"
        told = {_pair(one): one["outcome"] for one in self.subjects(shown["run_id"])}
        for pair in before ^ after:
            if told.get(pair) not in ("done", "unknown", "unverified"):
                self.fail(f"{pair} changed, and is {told.get(pair)}")
        done_now = {pair for pair, outcome in told.items() if outcome == "done" and was.get(pair, "pending") in OPEN}
        wrong = done_now & after if "-release-" in shown["run_id"] else done_now - after
        if wrong:
            self.fail(f"{wrong} are done, and it is not so")
        twice = [customer for customer, count in Counter(customer for _, customer in told).items() if count > 1]
        if twice and "-assign-" in shown["run_id"]:
            self.fail(f"{twice} have two codes")

    def reserved(self) -> set[tuple[str, str]]:
        """Who has which coupon as the API tells it: its lists name profiles, so nobody who was erased."""
        store = self.sandbox.store
        return {pair for pair in store.reserved() if store.get(EntityKind.PROFILE, pair[1]) is not None}

    def assign(self) -> None:
        people = self.random.sample(PEOPLE, self.random.randint(1, 5))
        path = self.folder / f"customers-{len(self.log)}.csv"
        path.write_text("\n".join(["customer_id", *people]) + "\n")
        out = self.folder / f"assigned-{len(self.log)}.csv"
        check = self.random.choice([[], [], ["--no-check"]])
        words = ["--coupons", self._codes(), "--out", out, "--confirm", "yes", *check]
        self._act("coupons", "assign", path, *words, *self.cut())

    def _rows(self) -> Path:
        path = self.folder / f"rows-{len(self.log)}.csv"
        pairs = {(self.random.choice(self.codes), self.random.choice(PEOPLE)) for _ in range(4)}
        path.write_text("coupon_value,customer_id\n" + "".join(f"{code},{person}\n" for code, person in sorted(pairs)))
        return path

    def reserve(self) -> None:
        budget = self.random.choice([[], [], ["--max-per-coupon", "2"]])
        self._act("coupons", "reserve", self._rows(), "--confirm", "yes", *budget, *self.cut())

    def release(self) -> None:
        path = self._rows()
        held = self.sandbox.store.reserved()
        if held:
            with path.open("a") as file:
                file.writelines(f"{code},{person}\n" for code, person in self.random.sample(held, min(3, len(held))))
        more = self.random.choice([[], ["--unredeemed"]])
        self._act("coupons", "release", path, "--confirm", "yes", *more, *self.cut())

    def go_on(self) -> None:
        if (run := self.any_run(("assign", "reserve", "release"), is_open=True)) is not None:
            self._act("runs", "resume", run)

    def undo(self) -> None:
        if (run := self.any_run(("assign", "reserve"))) is not None:
            self._act("runs", "undo", run, "--confirm", "yes")

    def pool(self) -> None:
        done = self.run("coupons", "pool", self._codes(), "--json", allowed={0, 3, 4})
        self.log[-1] += " " + done.out.strip()
        if done.code != 4:
            pool = done.json
            if min(pool.get(name, 0) for name in ("assigned", "held", "free")) < 0:
                self.fail(f"{pool}")

    def holders(self) -> None:
        out = self.folder / f"holders-{len(self.log)}.csv"
        path = self._codes()
        done = self.run("coupons", "holders", path, "--out", out, "--quiet", "--json", allowed=CODES)
        if "error" in done.json:
            self.log[-1] += " " + done.json["error"]["message"]
            return
        sure = {one["id"] for one in self.subjects(done.json["run_id"]) if one["outcome"] == "done"}
        held = {(code, person) for code, person in self.reserved() if code in sure}
        told = {(line["coupon_value"], line["customer_id"]) for line in lines_of(out)}
        if told != held:
            self.fail(f"holders {told}, and {held}")

    def status(self) -> None:
        done = self.run("coupons", "status", self._rows(), "--json", allowed={0, 3, 4})
        self.log[-1] += " " + done.out.strip()

    def others(self) -> None:
        """Another system reserves a code."""
        code, person = self.random.choice(self.codes[:-1]), self.random.choice(PEOPLE)
        self.sandbox.store.reserve(code, [person])
        self.log.append(f"      another system reserves {code} for {person}")
