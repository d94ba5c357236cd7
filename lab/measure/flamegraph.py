"""An interactive flame graph: one SVG file, made from collapsed stacks, that zooms, searches and resets by its own
script.

    .venv/bin/python -m lab.measure.flamegraph profiles/serial.collapsed.txt serial.svg

A box is a function, its width the share of all samples that it was in, the box above it what it called, the topmost
ones the lines. Without scripts (in print, in an image viewer) it is an ordinary picture.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from lab.command import Parser, in_one_line, quietly
from lab.files import write_text
from lab.measure.style import GREY, OPERATIONS, ink, lighter, looks, operation

WIDTH, ROW, MARGIN, TOP, BOTTOM = 1200, 20, 12, 62, 30  # pixels
LETTER, SIZE = 7.25, 12  # width and size of a letter of the font
LEAST = 0.0005  # narrower boxes are left out
HOT = 0.03  # the share of a function that has a colour of its own

STYLE = """
.flame { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; background: #fff; }
.flame .title { font: bold 16px sans-serif; } .flame .note { font: 12px sans-serif; fill: #555; }
.flame .frame { cursor: pointer; outline: none; } .flame .frame rect { stroke: #fff; stroke-width: 1; }
.flame .frame:hover rect, .flame .frame:focus rect { stroke: #000; } .flame .frame text { pointer-events: none; }
.flame.searching .frame { opacity: .3; } .flame.searching .frame.hit { opacity: 1 !important; }
.flame.searching .frame.hit rect { stroke: #000; stroke-width: 1.5; }
.flame .reset { cursor: pointer; visibility: hidden; font: 12px sans-serif; fill: #0072B2; text-decoration: underline; }
.flame input { font: 12px sans-serif; width: 160px; box-sizing: border-box; }
"""


@dataclass
class Node:
    """A function with the samples it was in; its children are what it called."""

    name: str
    count: int = 0
    children: dict[str, "Node"] = field(default_factory=dict)


@dataclass
class Box:
    """A node at its place: left edge and width are shares of the picture, depth counts from 0 at the bottom."""

    node: Node
    left: float
    width: float
    depth: int
    fill: str


def tree(stacks: Mapping[str, int]) -> Node:
    """Collapsed stacks as a tree; its root stands for all."""
    root = Node("all")
    for stack, count in stacks.items():
        node = root
        node.count += count
        for name in stack.split(";"):
            node = node.children.setdefault(name, Node(name))
            node.count += count
    return root


def colours_of(stacks: Mapping[str, int]) -> dict[str, str]:
    """{function: colour} of those in which the time is, without what they call in libraries."""
    own: Counter[str] = Counter()
    for stack, count in stacks.items():
        functions = [name for name in stack.split(";")[:-1] if "(" not in name]
        if functions:
            own[operation(functions[-1])] += count
    hot = [name for name, count in own.most_common() if name in OPERATIONS or count >= HOT * sum(stacks.values())]
    return {name: fill for name, (fill, _) in looks(hot).items()}


def boxes(
    node: Node, whole: int, colours: Mapping[str, str], left: float = 0.0, depth: int = 0, parent: str = ""
) -> Iterator[Box]:
    """The node and all below it at their places; a function without a colour of its own inherits its caller's."""
    fill = fill_of(node, colours, parent)
    yield Box(node, left, node.count / whole, depth, fill)
    for name in sorted(node.children):
        child = node.children[name]
        if child.count / whole >= LEAST:
            yield from boxes(child, whole, colours, left, depth + 1, fill)
        left += child.count / whole


def fill_of(node: Node, colours: Mapping[str, str], parent: str) -> str:
    """A hot function has its colour, a line is lighter than its function, what is in no hot function is grey."""
    if operation(node.name) in colours:
        return colours[operation(node.name)]
    if not node.children and ":" in node.name:
        return lighter(parent or GREY)
    return parent if parent in colours.values() else lighter(GREY, 0.35)


def svg(stacks: Mapping[str, int], title: str, note: str = "") -> str:
    """The picture. Raises ValueError without samples."""
    root = tree(stacks)
    if not root.count:
        raise ValueError("no samples to draw")
    placed = list(boxes(root, root.count, colours_of(stacks)))
    height = TOP + ROW * (1 + max(box.depth for box in placed)) + BOTTOM
    frames = "\n".join(frame(box, height, root.count) for box in placed)
    script = Path(__file__).with_name("flamegraph.js").read_text(encoding="utf-8")
    return f"""<svg xmlns="http://www.w3.org/2000/svg" class="flame" viewBox="0 0 {WIDTH} {height}" width="100%"
 role="img" aria-label="{escape(title)}" data-left="{MARGIN}" data-width="{WIDTH - 2 * MARGIN}" data-letter="{LETTER}">
<style>{STYLE}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text class="title" x="{MARGIN}" y="24">{escape(title)}</text>
<text class="note" x="{MARGIN}" y="44">{escape(note)}</text>
<text class="reset" x="{WIDTH - 290}" y="24" tabindex="0">Reset zoom</text>
<foreignObject x="{WIDTH - 180}" y="8" width="170" height="26"><input xmlns="http://www.w3.org/1999/xhtml" type="search"
 placeholder="search" aria-label="search functions"/></foreignObject>
<text class="note matched" x="{WIDTH - MARGIN}" y="50" text-anchor="end"></text>
{frames}
<text class="note details" x="{MARGIN}" y="{height - 10}"></text>
<script><![CDATA[
{script}]]></script>
</svg>
"""


def frame(box: Box, height: int, whole: int) -> str:
    """One box with its tooltip and as much of its name as fits."""
    x, width = MARGIN + box.left * (WIDTH - 2 * MARGIN), max(box.width * (WIDTH - 2 * MARGIN), 0.3)
    y = height - BOTTOM - ROW * (box.depth + 1)
    name, room = box.node.name, math.floor((width - 6) / LETTER)
    label = "" if room < 3 else name if len(name) <= room else name[: room - 1] + "…"
    tip = f"{name}: {box.node.count} samples, {box.node.count / whole:.1%}"
    return (
        f'<g class="frame" tabindex="0" data-l="{box.left:.6f}" data-w="{box.width:.6f}" data-d="{box.depth}" '
        f'data-name="{escape(name)}"><title>{escape(tip)}</title>'
        f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW}" fill="{box.fill}"/>'
        f'<text x="{x + 3:.2f}" y="{y + 14}" fill="{ink(box.fill)}">{escape(label)}</text></g>'
    )


def read_collapsed(path: Path) -> Counter[str]:
    """Collapsed stacks of any tool: "a;b;c 17", one a line. Raises ValueError for another file, OSError."""
    stacks: Counter[str] = Counter()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        stack, _, count = line.rpartition(" ")
        if not stack or not count.isdigit():
            raise ValueError(f"{path}:{number}: not a collapsed stack: {line[:60]!r}")
        stacks[stack] += int(count)
    return stacks


@in_one_line("", OSError, ValueError)
def main(arguments: list[str] | None = None) -> int:
    """Draw collapsed stacks (of py-spy, perf or any other tool) as an interactive flame graph."""
    parser = Parser(prog="python -m lab.measure.flamegraph", description=main.__doc__)
    parser.add_argument("stacks", type=Path, help="file of collapsed stacks")
    parser.add_argument("svg", type=Path, help="file to write")
    parser.add_argument("--title", help="default: the name of the file")
    options = parser.parse_args(arguments)
    write_text(options.svg, svg(read_collapsed(options.stacks), options.title or options.stacks.stem))
    return 0


if __name__ == "__main__":
    quietly(main, steady=True)
