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

How it is made: a runtime derived from lab.threadlib.Runtime (scheduler.py) decides at each operation which thread goes
on (strategies.py); programs are executed anew for each schedule (program.py), with a few additions made in memory
(instrument.py); a schedule that fails is shrunk and run again with everything on record (explore.py, blame.py,
picture.py). A schedule becomes a page (trace.py, page.py), with the state graph of a tiny program (states.py). Races
are found in runs whose variables are noted (notes.py) and whose arrays are tracked (tracked.py): what numpy touches
(touches.py) is compared, byte by byte (shadow.py), with what the primitives order (clocks.py, races.py).
"""
