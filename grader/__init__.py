"""The grader: is it the same program, does it scale, and if not, why.

grade.py        a file to a verdict: all stages in order
submission.py   reads the one file a student hands in, without running it
cases.py        which prompts, with which margin
workspace.py    the folder of a grading, and that nothing is left behind
interpreter.py  the Python that runs in the sandbox; access.py, processes.py: who may read what, what runs
sandbox.py      who may do what: bubblewrap, another user, or limits alone
confine.py      the locks that a program in the sandbox puts on itself: seccomp, Landlock
harness.py      the program inside the sandbox
child.py        the parent's side of it: sends prompts, stamps tokens, watches from outside; runs.py: what it saw;
                plain.py: JSON from there, as data that nothing stumbles over
correctness.py  the stage of tokens and workers
inside.py       who does the work, and whether it is used; shares.py: the arrays that note it, in the sandbox
timing.py       the stage of scaling: programs that take turns, capacity, disturbance; rounds.py: what they showed
estimates.py    from timings to E_k and C_k, with intervals
threads.py      what lab.check found; examiner.py: the program inside the sandbox that runs it
explain.py      from what was observed to a sentence that helps
points.py       the rows, and the table of points; evidence.py: what they are judged from
rows.py         the rows that are judged from runs on tiny models; scaling.py: those from timed runs
verdict.py      from observations to points; pure, so that recorded timings can be fed to it
report.py       terminal, results.json, report.html
"""

import lab as lab  # before anything else: Ctrl-C while a command is loading
