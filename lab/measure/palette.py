"""Colours: one for each operation, the same in every picture, distinguishable for colour-blind readers (Okabe and Ito,
2008)."""

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, LIGHT, INK = "#8C8C8C", "#E4E4E4", "#222222"

OPERATIONS = {  # operation: (colour, hatch of its areas, for black and white print)
    "matmul_forward": (BLUE, ""),
    "attention_forward": (VERMILLION, "//"),
    "layernorm_forward": (GREEN, "\\\\"),
    "gelu_forward": (ORANGE, ".."),
    "residual_forward": (SKY, "--"),
    "softmax_forward": (PURPLE, "xx"),
    "encoder_forward": (YELLOW, "++"),
}


def colour(name: str, otherwise: str = GREY) -> str:
    """The colour of a function, by the operation it is or is nested in: "matmul_forward.block" is a matmul_forward."""
    return OPERATIONS.get(name.split(".")[0], (otherwise, ""))[0]


def hatch(name: str) -> str:
    """The hatch of an operation's areas."""
    return OPERATIONS.get(name.split(".")[0], ("", ""))[1]


def ink(background: str) -> str:
    """Black or white, whichever can be read on the background (by its luminance, ITU-R BT.709)."""
    red, green, blue = (int(background[i : i + 2], 16) for i in (1, 3, 5))
    return INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 120 else "#FFFFFF"


def lighter(background: str, part: float = 0.55) -> str:
    """The colour, mixed with white."""
    values = (int(background[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(value + (255 - value) * part):02X}" for value in values)


def short(name: str) -> str:
    """matmul_forward -> matmul"""
    return name.removesuffix("_forward")
