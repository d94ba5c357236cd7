"""What an instrumented program calls at its statements and loops (lab.check.instrument puts the calls there)."""

from typing import Any

from lab.check.runner import Runner

# Rounds of loops are weighted: a `while` often waits for others, a `for` seldom does.
WHILE_ROUND, FOR_ROUND = 10, 4
SPINS = 1000  # rounds without another thread before a thread must let others run
AGAIN = 100  # further rounds before it must do so again
IDLE_ROUNDS = 20_000_000  # rounds without a point in any thread, after which the run counts as endless


class Statements:
    """The part of a scheduler that is called at statements and loops."""

    def step(self: Any, line: int) -> None:
        """A statement of the program: a point if statements are."""
        if self.traced and not self.ending:
            self.current.line = line
        if self.switching and not self.ending:
            me = self.current
            spins = me.spins
            self.point("at", line)
            me.spins = spins

    def middle(self: Any, value: Any, line: int) -> Any:
        """Between the reading and the writing of an assignment."""
        self.step(line)
        return value

    def between(self: Any, value: Any, line: int) -> Any:
        """Between two parts of an expression: a point if those are."""
        if self.inside:
            self.step(line)
        return value

    def loop(self: Any, line: int, weight: int = WHILE_ROUND) -> bool:
        """A round of a while loop: others must get a turn if this is all the thread does. Always true."""
        me = self.current
        if me is None:
            return True
        me.spins += weight
        me.rounds += weight
        if me.spins >= SPINS or me.rounds >= SPINS:
            self.spin(me, line)
        return True

    def round(self: Any, line: int) -> bool:
        """A round of a for loop or a comprehension, most of which end."""
        return self.loop(line, FOR_ROUND)

    def spin(self: Any, me: Runner, line: int) -> None:
        """Many rounds without another thread. Without any point, too, they become ever more, and time flies."""
        me.rounds = 0
        if me.spins >= SPINS:
            more = max(AGAIN, self.idle_rounds // 100)
            self.idle_rounds += more
            me.spins = SPINS - more
            self.clock.leapt += 1e-6 * self.idle_rounds
            if self.idle_rounds > IDLE_ROUNDS:
                self.stop_livelock(f"{IDLE_ROUNDS // WHILE_ROUND:,} rounds of loops")
        self.yield_point("spins", line)
