"""The results are returned while the workers may still be at work."""
# EXPECT explore unjoined: without joining worker-1

from lab.threadlib import spawn

results = []


def main():
    for _ in range(2):
        spawn(results.append)  # BUG
    return results
