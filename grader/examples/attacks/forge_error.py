# Reports an error of its own making, full of markup and terminal codes.
# on: nothing
# expect: runs failed |

EVIL = "</td><script>alert(1)</script>\x1b[2J\x1b]0;owned\x07"


class Evil(Exception):
    def __str__(self):
        return EVIL


def generate(model, prompt, n, workers):
    raise Evil(EVIL)
    yield 0
