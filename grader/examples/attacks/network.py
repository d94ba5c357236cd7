# Asks somebody on the network for the tokens.
# on: nothing
# expect: runs failed | not allowed here

import urllib.request


def generate(model, prompt, n, workers):
    answer = urllib.request.urlopen("http://127.0.0.1:8000/tokens", timeout=2).read()
    yield from map(int, answer.split())
