# The workers are never ended.
# on: base
# expect: public passed |
# expect: workers failed | left after the last token


def close(self):
    pass


Workers.close = close
