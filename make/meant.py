"""What to write instead of a verb, or of a variable, that make does not know: one line.

python3 make/meant.py VERB VARIABLE "what the verb takes" "all verbs"
"""

import sys
from difflib import get_close_matches

INSTEAD = {  # names of earlier versions that are no option's name in capitals
    "SUBMISSION": "FILE=",
    "K": "WORKERS=",
    "N": 'ARGS="-n NUMBER"',
    "FROM": "MODEL=",
    "TO": "OUT=",
    "STATE": "FILE=",
    "STAGE": 'ARGS="-m STAGE"',
    "TORCH": 'ARGS="--torch-python PYTHON"',
    "PEERS": "ARGS=--peers",
    "INSTRUCTOR": "ARGS=--instructor",
    "FRESH": "ARGS=--fresh",
    "SYNTHETIC": "make synthetic",
}
OPTIONS = (
    "CASES DATA ENGINES MIRROR ONLY PEER_CMD PICTURE POINTS PROFILER RATE REPLAY ROUNDS SEED STAGES STEPS TIMES TITLE"
)
SCHEDULES = ("explore", "races", "check-selftest")


def unknown_verb(verb: str, verbs: list[str]) -> str:
    """make gtp: the verbs that look like it."""
    close = get_close_matches(verb, verbs, n=2, cutoff=0.5)
    meant = f"did you mean make {' or make '.join(close)}? " if close else ""
    return f"make {verb}: there is no such target; {meant}make help lists them all"


def unknown_variable(verb: str, name: str, takes: list[str]) -> str:
    """make grade K=3: what K has become, or what the verb takes."""
    if name == "N" and verb in SCHEDULES:
        meant = 'ARGS="--schedules NUMBER"'
    elif name == "FROM" and verb == "convert":
        meant = "FILE="
    elif (instead := INSTEAD.get(name, "")) and ("=" not in instead or instead.partition("=")[0] in takes):
        meant = instead
    elif name in OPTIONS.split() and "ARGS" in takes:
        meant = f'ARGS="--{name.lower().replace("_", "-")} ..."'
    else:
        meant = "".join(f"{close}=" for close in get_close_matches(name.upper(), takes, n=1, cutoff=0.5))
    if meant:
        return f"make {verb} takes no {name}=; write {meant}"
    variables = " ".join(f"{name}=" for name in takes) or "none"
    options = f" (make {verb} ARGS=--help lists its options)" if "ARGS" in takes else ""
    return f"make {verb} takes no {name}=; it takes {variables}{options}"


if __name__ == "__main__":
    verb, name, takes, verbs = sys.argv[1:]
    print(unknown_variable(verb, name, takes.split()) if name else unknown_verb(verb, verbs.split()))
