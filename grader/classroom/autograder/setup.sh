#!/bin/sh
# Gradescope runs this once, as root, when it builds the image: packages, the environment, and the model to time with, so
# that no grading waits for them.
set -eu
cd "$(dirname "$(readlink -f "$0")")/lab"

new_enough() { "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
missing=
for tool in git make; do command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"; done
new_enough python3 || new_enough python3.12 || new_enough python3.11 || missing="$missing python3 python3-venv python3.11 python3.11-venv"
if [ -n "$missing" ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    for package in $missing bubblewrap; do # which of them there are depends on the image; make env says what is missing
        apt-get install -y -qq --no-install-recommends "$package" || echo "not installed: $package" >&2
    done
fi
make env
make synthetic
