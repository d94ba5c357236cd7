"""What goes wrong with threads: three ways to see it, for any program written with lab.threadlib, unchanged.

    python -m lab.check check PROGRAM         checked mode: real threads; misuse, lock order and stalls are said at once
    python -m lab.check run lab.gpt ...       the same for any command of the lab, as it is
    python -m lab.check explore PROGRAM       the explorer: one thread at a time, under thousands of schedules
    python -m lab.check races PROGRAM         the race detector: who touches which elements, and what orders them

PROGRAM is a file or a module with generate(model, prompt, n, workers), which is run on a tiny model and compared with
lab.serial, or with main(), and perhaps check(result). Exit code 0: nothing found; 4: a thread error; 2: it cannot be
checked, with the reason.

For programs: lab.check.api, whose functions return lab.check.report.Findings (to_json, from_json):

    explore_submission(program, schedules=2000, seed=1, workers=3, seconds=None, races=True, strategy="mix")
    check_races(program, schedules=60, seed=1, workers=3, seconds=None)
    run_checked(program, workers=3, repeats=3)      real threads, in this process
    replay(program, schedule)
    trace(program, schedule)                        step by step, as plain data (trace.py says what it holds)
    page(program, schedule, finding=None)           the same as an HTML page to step through (page.py)
    scan(program)                                   imports only; runs nothing

The same from a command, one JSON object on standard output:  python -I -m lab.check explore parallel.py --json

How it is made: a runtime derived from lab.threadlib.Runtime decides at each operation which thread goes on. Programs
are executed anew for each schedule, with a few additions made in memory; a schedule that fails is shrunk and run again
with everything on record. Races are found in runs whose variables are noted and whose arrays are tracked: what numpy
touches is compared, byte by byte, with what the primitives order.

    running      scheduler.py, with runner.py, primitives.py, clock.py: one thread at a time
                 strategies.py: which one; schedule.py: the decisions as text; explorer.py: one run of one program
                 program.py, names.py: its source; tiny.py: the model it is run on
    additions    instrument.py, switches.py: places to switch at; notes.py: accesses to variables
    searching    explore.py: many schedules; shrink.py: the simplest that fails; replay.py: one again; hunt.py: races
    races        tracked.py, recorder.py, touches.py, reach.py: arrays that tell of accesses; shadow.py: their bytes
                 vector_clocks.py: what the primitives order; races.py, race.py: accesses that nothing orders
    explaining   causes.py, culprit.py, blame.py, waiting.py: why it failed; report.py: how it is said
    showing      picture.py: text and SVG; trace.py, variables.py, states.py, page.py: a page to step through
    real threads checked.py: checked mode; trial.py: a few runs in it
    commands     api.py, supervise.py: in a process of its own; environment.py: with the lab's Python
"""
