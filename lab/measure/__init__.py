"""Where the time goes: what `make profile`, `timeline`, `scale`, `bench`, `plots` and `report` run.

profile.py     hot spots and flame graph: samples.py from py-spy or sampler.py, hotspots.py, flamegraph.py; perf.py
timeline.py    tasks and waits: recorder.py notes them, recording.py puts them in order
scale.py       the time on more cores than there are, with burden.py: what a region costs besides its arithmetic
bench.py       engines in turns, and other programs: contender.py, torch_peer.py, llama_peer.py
plots.py       speedup, seconds by operation (operations.py), roofline; style.py, beside.py: how pictures look
report.py      all of these on one page; freshness.py: which results are stale; reference.py: profiles/reference
runner.py      starts the program that is observed, target.py, in a process of its own
machine.py     what the machine is; load.py: who else uses it; capacity.py: C_k; stats.py: medians, intervals
"""
