"""What hardware changes: the same GPT-2 in PyTorch, one optimisation at a time, each timed and its result checked."""
