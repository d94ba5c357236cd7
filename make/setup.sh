# Makes the virtual environment $VENV with everything the lab needs, and notes in $READY for which folder. Whatever is
# missing is said in one line, with the cure. $PY: an interpreter to use; otherwise the first one here that is new enough.

stop() { echo "$1" >&2; exit 1; }

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

# Of two makes at once, one waits for the other and finds everything ready.
if command -v flock >/dev/null 2>&1; then
    exec 9<"$0"
    flock 9
    if [ "$(cat "$READY" 2>/dev/null)" = "$(pwd -P)" ] && [ -x "$VENV/bin/python" ]; then
        newer=yes
        for file in pyproject.toml constraints.txt "$0"; do [ "$file" -nt "$READY" ] && newer=; done
        [ "$newer" ] && exit 0
    fi
fi

# Scripts such as .venv/bin/gpt name the folder they were made in. Where the checkout was moved, they are told the new one:
# that needs no network.
was=$(cat "$READY" 2>/dev/null)
[ -L "$VENV" ] && [ "$was" != "$(pwd -P)" ] && [ "$was/$VENV" -ef "$VENV" ] &&
    stop "$VENV is a link to the one of $was, which would be that folder's no more. Remove the link: rm $VENV"
if [ -n "$was" ] && [ "$was" != "$(pwd -P)" ] && "$VENV/bin/python" -c "$new_enough" >/dev/null 2>&1; then
    echo "This folder was $was before: adjusting $VENV ..." >&2
    WAS=$was NOW=$(pwd -P) "$VENV/bin/python" - "$VENV" <<'END' || stop "$VENV cannot be adjusted; remove it: rm -r $VENV"
import os, pathlib, sys
was, now = (os.fsencode(os.environ[name]) for name in ("WAS", "NOW"))
venv = pathlib.Path(sys.argv[1])
for path in [*venv.glob("bin/*"), *venv.glob("pyvenv.cfg"), *venv.glob("lib/*/site-packages/__editable__*"),
             *venv.glob("lib/*/site-packages/*.pth"), *venv.glob("lib/*/site-packages/*.dist-info/direct_url.json")]:
    if path.is_file() and not path.is_symlink() and was in (text := path.read_bytes()) and b"\0" not in text:
        first, newline, rest = text.replace(was, now).partition(b"\n")
        if first.startswith(b"#!" + now) and b" " in now:  # no system starts a script whose interpreter has a blank in its path
            first = b"#!/bin/sh\n'''exec' \"" + first[2:] + b"\" \"$0\" \"$@\"\n' '''"
        path.write_bytes(first + newline + rest)
END
    if [ ! pyproject.toml -nt "$READY" ] && [ ! constraints.txt -nt "$READY" ]; then
        pwd -P >"$READY"
        exit 0
    fi
fi

command -v git >/dev/null 2>&1 || stop "git is missing. Install it: sudo apt install git"

python=
for candidate in ${PY:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if "$candidate" -c "$new_enough" >/dev/null 2>&1; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    found=$("${PY:-python3}" --version 2>&1) || found="no working ${PY:-python3}"
    stop "Python 3.11 or newer is needed, found: $found. Install one (sudo apt install python3), or name yours: make env PY=/path/to/python3.12"
fi
"$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
    stop "$("$python" --version) has no venv. Install it: sudo apt install python3-venv"

if ! "$VENV/bin/python" -c "$new_enough; import pip" >/dev/null 2>&1; then
    rm -rf "$VENV"
    "$python" -m venv "$VENV" >/dev/null 2>&1 || stop "$python -m venv $VENV failed. Try it by hand to see why; is the disk full?"
fi

echo "Setting up $VENV with $("$VENV/bin/python" --version): about a minute the first time ..." >&2
log=$VENV/install.log
if ! "$VENV/bin/python" -m pip install --disable-pip-version-check -c constraints.txt -e '.[test]' >"$log" 2>&1; then
    reason=$(grep -E '^ *ERROR' "$log" | head -n 1 | sed 's/^ *ERROR: *//')
    stop "Installing the packages failed: ${reason:-see $log}. Is there a network? All pip said is in $log; then again: make env"
fi
pwd -P >"$READY"
