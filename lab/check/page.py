"""A schedule as a page to step through: one HTML file that needs no network."""

import json
from html import escape
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("page.html")


def page(trace: dict[str, Any], finding: dict[str, Any] | None, graph: dict[str, Any] | None = None) -> str:
    """The page for a run (lab.check.trace), what was found in it (kind, message, detail, where), and the program's
    states (lab.check.states). All of it is shown as text only, whatever a program has put into it."""
    data = json.dumps({"trace": trace, "finding": finding, "graph": graph or {"note": ""}}, separators=(",", ":"))
    title = f"{trace['program']}: {finding['kind'] if finding else 'a schedule'}"
    before, between, after = TEMPLATE.read_text(encoding="utf-8").replace("{{data}}", "{{title}}").split("{{title}}")
    return before + escape(title) + between + data.replace("<", "\\u003c") + after
