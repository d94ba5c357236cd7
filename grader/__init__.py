"""The grader: is it the same program, does it scale, and if not, why.

submission.py   reads the one file a student hands in, without running it
cases.py        which prompts, with which margin
sandbox.py      who may do what: bubblewrap, another user, or limits alone
harness.py      the program inside the sandbox
child.py        the parent's side of it: sends prompts, stamps tokens, watches from outside
correctness.py  the stage of tokens and workers
timing.py       the stage of scaling: rounds, capacity, disturbance
threads.py      what lab.check found
explain.py      from what was observed to a sentence that helps
verdict.py      from observations to points; pure, so that recorded timings can be fed to it
report.py       terminal, results.json, report.html
"""
