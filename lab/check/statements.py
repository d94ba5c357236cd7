"""What an instrumented program calls at its statements and loops (lab.check.instrument puts the calls there)."""

from typing import Any

from lab.check.runner import Runner
from lab.check.schedule import STATEMENTS
from lab.check.switches import WHILE_ROUND

SPINS = 1000  # rounds without another thread before a thread must let others run
AGAIN = 100  # further rounds before it must do so again
PATIENT = 20 * AGAIN  # rounds without a point in any thread, after which all threads get their turns
IDLE_ROUNDS = 20_000_000  # rounds without a point in any thread, after which the run counts as endless


class Statements:
    """The part of a scheduler that is called at statements and loops."""

    def step(self: Any, line: int) -> None:
        """A statement of the program: a point if statements are."""
        if self.traced and not self.ending:
            self.current.line = line
        if self.level >= STATEMENTS and not self.ending:
            self.point("at", line)

    def switch(self: Any, value: Any, line: int, level: int) -> Any:
        """Inside a statement, at the places of a level: a point if those are. Returns the value."""
        if level <= self.level or level == STATEMENTS:
            self.step(line)
        return value

    def loop(self: Any, line: int, weight: int) -> bool:
        """A round of a loop: others must get a turn if this is all the thread does. Always true."""
        me = self.current
        me.rounds += weight
        if me.rounds >= SPINS:
            self.spin(me, line)
        return True

    def spin(self: Any, me: Runner, line: int) -> None:
        """Many rounds without another thread. If no thread does anything but go round, the rounds become ever more, and
        time flies."""
        more = AGAIN if me.spun_at == me.points else SPINS
        if self.spun_at == self.steps:
            more = max(AGAIN, self.idle_rounds // 100)
            self.idle_rounds += more
            self.clock.leapt += 1e-6 * self.idle_rounds
            if self.idle_rounds > IDLE_ROUNDS:
                self.stop_livelock(f"{IDLE_ROUNDS // WHILE_ROUND:,} loop iterations")
        else:
            self.idle_rounds, self.spun_at = 0, self.steps
        self.yield_point("spins", line)
        me.rounds, me.spun_at = SPINS - more, me.points
