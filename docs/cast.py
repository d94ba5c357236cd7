"""The moving picture of README: recorded terminal output as an animated SVG, which needs no script to play.

    python docs/cast.py docs/cast.svg 'make profile=profile.txt' 'make explore FILE=parallel.py=explore.txt' ...

Each scene is a command and a file with what it printed (colours kept); scenes follow each other for ever.
"""

import sys
from html import escape
from pathlib import Path

from rich.color import ColorTriplet
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

COLUMNS, ROWS = 100, 24
NBSP = "\N{NO-BREAK SPACE}"  # SVG makes one of several blanks
WIDTH, HEIGHT, LINE, FONT = 7.83, 44, 18.5, 13  # of a column; of the window's head; of a row; of the letters
SECONDS = 7.0  # of a scene
INK, PAPER, DIM, PROMPT = "#d8dee9", "#1d232c", "#8a94a3", "#8fd19e"


def spans(line: Text, console: Console) -> str:
    """A line as SVG, piece by piece where its style changes."""
    made, column = [], 0
    for segment in line.render(console):
        text = segment.text.rstrip("\n")
        if text.strip():
            style = segment.style
            colour = INK
            if style and style.color:
                triplet: ColorTriplet = style.color.get_truecolor(SVG_EXPORT_THEME)
                colour = triplet.hex if sum(triplet) > 200 else INK
            if style and style.dim:
                colour = DIM
            weight = ' font-weight="bold"' if style and style.bold else ""
            shown = escape(text.replace(" ", NBSP))
            made.append(f'<tspan x="{16 + column * WIDTH:.1f}" fill="{colour}"{weight}>{shown}</tspan>')
        column += len(text)
    return "".join(made)


def scene(number: int, count: int, command: str, output: str) -> str:
    """One screen: visible for its part of the whole, then gone until its turn comes again."""
    console = Console(width=COLUMNS, color_system="truecolor", force_terminal=True)
    whole = Text.from_ansi(output.rstrip("\n")).split("\n", allow_blank=True)
    lines = [part for line in whole for part in line.wrap(console, COLUMNS) or [line]][: ROWS - 1]
    rows = [
        f'<tspan x="16" fill="{PROMPT}">$</tspan><tspan x="{16 + 2 * WIDTH}" fill="{INK}">{escape(command)}</tspan>'
    ]
    rows += [spans(line, console) for line in lines]
    body = "".join(f'<text y="{HEIGHT + i * LINE}">{row}</text>' for i, row in enumerate(rows) if row)
    whole, begin, end = count * SECONDS, number / count, (number + 1) / count
    shown = f"0;{begin:.4f};{min(begin + 0.012, end):.4f};{max(end - 0.012, begin):.4f};{end:.4f};1"
    values = "1;1;1;1;0;0" if number == 0 else "0;0;1;1;0;0"
    if count == 1:
        return f"<g>{body}</g>"
    times = f'dur="{whole}s" repeatCount="indefinite" keyTimes="{shown}" values="{values}"'
    animate = f'<animate attributeName="opacity" {times}/>'
    return f'<g opacity="{1 if number == 0 else 0}">{animate}{body}</g>'


def main(target: str, *scenes: str) -> None:
    """Write the picture."""
    pairs = [one.rsplit("=", 1) for one in scenes]
    made = [
        scene(i, len(pairs), command, Path(file).read_text(encoding="utf-8")) for i, (command, file) in enumerate(pairs)
    ]
    width, height = 32 + COLUMNS * WIDTH, HEIGHT + ROWS * LINE
    dots = "".join(f'<circle cx="{20 + 18 * i}" cy="16" r="5" fill="#4a5564"/>' for i in range(3))
    Path(target).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-size="{FONT}" '
        f'font-family="ui-monospace,DejaVu Sans Mono,Menlo,Consolas,monospace">'
        f'<rect width="100%" height="100%" rx="10" fill="{PAPER}"/>{dots}{"".join(made)}</svg>\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
