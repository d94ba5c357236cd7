"""What hardware changes: the same GPT-2 in PyTorch, one optimisation at a time, each timed and its result checked.

rungs.py     the optimisations; work.py: the training step and the generation that they change, and their cost
climb.py     from rung to rung; peer.py, process.py: each in a process of its own
show.py      tables and pictures
"""
