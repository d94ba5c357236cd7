"""The state graph of a tiny program: all states it can come to, under every schedule, and the steps between them.

A state is where each thread is (in each of its calls), its variables, the shared ones, and who holds and who waits for
what. The search goes depth first and tries all threads that can go on once in each state, so its cost is that of the
states, not that of the schedules, of which there are many times more. No wait ends without a signal here.
"""

import time
from itertools import pairwise
from typing import Any

from lab.check.explorer import Explorer, Run, prepared
from lab.check.program import Program
from lab.check.report import grouped
from lab.check.runner import Runner
from lab.check.schedule import Setting
from lab.check.scheduler import Event, Scheduler
from lab.check.strategies import Exhaustive, Strategy
from lab.check.trace import snapshot
from lab.check.variables import frames, halfway, shared, texts

MOST_STATES, MOST_SECONDS = 400, 6.0
ANY = 1 << 30  # preemptions


def key_of(scheduler: Scheduler) -> tuple[Any, ...]:
    """What makes a state this one."""
    seen = snapshot(scheduler)
    places = tuple(
        (name, tuple((frame.f_code.co_name, frame.f_lasti, *texts(frame.f_locals).items()) for frame in mine))
        for name, mine in frames(scheduler).items()
    )
    doing = tuple((runner.name, runner.verb, runner.signalled) for runner in scheduler.live)
    waiting = tuple(
        tuple(runner.name for runner in runner.what[0].waiters) for runner in scheduler.live if runner.verb == "wakes"
    )
    owned = tuple(sorted(seen["holders"].items()))
    counts = tuple((state.label, state.count) for state in scheduler.semaphores)
    return places, doing, waiting, owned, counts, tuple(shared().items()), tuple(halfway(scheduler).items())


class Unvisited(Exhaustive):
    """Depth first through all schedules, but what can follow a state is tried once."""

    def __init__(self) -> None:
        super().__init__(ANY)
        self.tried: set[Any] = set()

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """Follow the path to its end, then the default; elsewhere later, if this state is new."""
        new = self.depth == len(self.path)
        chosen = super().choose(able, default, free)
        if new:
            key = (key_of(self.scheduler), tuple(runner.number for runner in able))
            if key in self.tried:
                del self.path[-1].threads[1:]
            self.tried.add(key)
        return chosen


class Graph:
    """Nodes and edges, in the order in which they are found."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}
        self.kinds: list[str] = []  # "", "end" or the kind of failure
        self.edges: dict[tuple[int, int], tuple[str, str]] = {}  # (from, to) -> (thread, what it does)
        self.passed: list[tuple[int, int]] = []  # of the run that goes on: (steps done, node)

    def node(self, key: Any, kind: str = "") -> int:
        """Its number; a new one if need be."""
        if key not in self.numbers:
            self.numbers[key] = len(self.kinds)
            self.kinds.append(kind)
        return self.numbers[key]

    def run(self, explorer: Explorer, strategy: Strategy, setting: Setting) -> Run:
        """A run whose states are added. They are looked at before each step, and at each decision: a thread that
        begins makes no step, but others can go first."""
        self.passed = []
        run = explorer.run(Watching(strategy, self), setting, traced=True, watch=self.step)
        if run.failure is None or run.failure.kind != "timeout":
            self.passed.append((len(run.scheduler.trace), self.node(*last_of(run))))
            self.connect(run.scheduler.trace)
        return run

    def step(self, scheduler: Scheduler) -> int:
        """Called before each step, the last of the trace."""
        self.passed.append((len(scheduler.trace) - 1, self.node(key_of(scheduler))))
        return self.passed[-1][1]

    def connect(self, trace: list[Event]) -> None:
        """Edges between the states that the run has passed."""
        for (done, before), (then, after) in pairwise(self.passed):
            if before != after:
                runner, verb = trace[done][:2] if done < len(trace) else trace[-1][:2]
                self.edges.setdefault((before, after), (runner.name, verb if then > done else "starts"))

    def doomed(self) -> list[bool]:
        """For each node: does every way on end in a failure?"""
        following = grouped(self.edges)
        bad = [kind not in ("", "end") for kind in self.kinds]
        changed = True
        while changed:
            changed = False
            for node, others in following.items():
                if not bad[node] and all(bad[other] for other in others):
                    bad[node] = changed = True
        return bad


class Watching(Strategy):
    """A strategy, while the graph looks at the states in which it decides."""

    def __init__(self, strategy: Strategy, graph: Graph) -> None:
        self.strategy, self.graph = strategy, graph

    def attach(self, scheduler: Scheduler) -> None:
        """A run of this scheduler begins."""
        super().attach(scheduler)
        self.strategy.attach(scheduler)

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """As the strategy does."""
        self.graph.passed.append((len(self.scheduler.trace), self.graph.node(key_of(self.scheduler))))
        return self.strategy.choose(able, default, free)


def last_of(run: Run) -> tuple[Any, str]:
    """The state a run ends in: a failure, with all that made it, or the end."""
    failure = run.failure
    if failure is not None:
        return ("failure", run.kind, run.scheduler.last), failure.kind
    return ("end", tuple(shared().items())), "end"


def state_graph(program: Program, setting: Setting, strategy: Strategy) -> dict[str, Any]:
    """Plain data: kinds, doomed (for each node), edges ([from, to, thread, operation]), path (the node before each step
    of the run under `strategy`, and its last one), way (all nodes of that run), note. Only a note if the program has
    too many states, or is a submission."""
    if program.entry == "generate":
        return {"note": "The state graph is drawn for small programs with main(), not for generate()."}
    setting = Setting(setting.workers, level=setting.level)
    graph, search, until = Graph(), Unvisited(), time.monotonic() + MOST_SECONDS
    with prepared(program):
        explorer = Explorer(program, setting.workers, until)
        run = graph.run(explorer, strategy, setting)
        way = [node for _done, node in graph.passed]
        path = [*run.scheduler.snapshots, way[-1]]
        while True:
            graph.run(explorer, search, setting)
            if time.monotonic() > until or len(graph.kinds) > MOST_STATES:
                return {"note": f"This program has more states than can be drawn (the limit is {MOST_STATES})."}
            if not search.advance():
                break
    return {
        "kinds": graph.kinds, "doomed": graph.doomed(), "edges": [[*ends, *step] for ends, step in graph.edges.items()],
        "path": path, "way": way, "note": "",
    }  # fmt: skip
