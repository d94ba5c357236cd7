"""The program inside the sandbox that looks for thread errors: lab.check on the submission, then on a control, a
program known to deadlock, in the same process. A report counts if it bears the parent's key and the control was caught:
so a submission that ends this process, writes a report of its own or disarms the checks is found out.

    argv[1]   JSON: {"paths": [...], "submission": path, "control": path, "how": options of explore_submission,
                     "parent": pid, "readable": [...]}
    stdin     the key, KEY bytes
    stdout    one line: the HMAC of the report, a blank, the report as JSON: {"found": ..., "trace": the first finding's
              schedule, step by step (see lab.check.trace), or null, "control": [kinds]}
"""

import sys

KEY = 32
TRACE_SECONDS = 5.0  # for one schedule again
CONTROL_SECONDS = 10.0  # its first schedule shows the deadlock, however busy the machine is


def sender(key, descriptor):
    """A function that writes a report. It keeps all it needs, so that nothing it uses can be replaced meanwhile."""
    import hmac
    import json
    import os

    sign, dumps, write = hmac.new(key, digestmod="sha256"), json.JSONEncoder().encode, os.write

    def send(report):
        data = dumps(report).encode()
        sign.update(data)
        data = sign.hexdigest().encode() + b" " + data + b"\n"
        while data:
            data = data[write(descriptor, data) :]

    return send


def examined(config):
    """What lab.check finds in the submission, and which kinds of errors in the control."""
    from lab.check.api import explore_submission, trace
    from lab.check.report import ProgramError

    steps = None
    try:
        findings = explore_submission(config["submission"], **config["how"])
        found = findings.to_json()
        schedule = next((finding.schedule for finding in findings.findings if finding.schedule), "")
        if schedule:
            steps = trace(config["submission"], schedule, TRACE_SECONDS)
    except ProgramError as error:
        found = {"problem": str(error)}
    control = explore_submission(config["control"], **{**config["how"], "races": False, "seconds": CONTROL_SECONDS})
    return {"found": found, "trace": steps, "control": [finding.kind for finding in control.findings]}


def main():
    """Lock, examine, report."""
    import json
    import os

    config = json.loads(sys.argv[1])
    sys.path[:0] = config["paths"]
    del sys.argv[1:]

    import confine

    confine.die_with_parent(config["parent"])
    out = os.dup(1)
    os.dup2(2, 1)  # what the submission prints is not the report

    import lab.check.api  # noqa: F401  (before the locks: with all it needs)

    confine.lock_in(config["readable"])
    # The sender with the key lies in no variable while the submission runs, so no frame shows it.
    sender(os.read(0, KEY), out)(examined(config))
    os._exit(0)


if __name__ == "__main__":
    main()
