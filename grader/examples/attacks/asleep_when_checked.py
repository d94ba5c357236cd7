# Ends in no time but in an endless loop when it is checked.
# on: base
# checked: livelock | parallel.py

import sys

if "lab.check" in sys.modules:
    while True:
        pass
