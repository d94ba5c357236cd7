"""Which elements an operation of numpy reads and writes.

A *rule* is called before the operation, with its arguments but for `out`, and records what will be touched. Most
operations read all of their arguments; some look at shapes only, some return views, some touch the elements that an
index or a mask picks: which ones these are is found by doing the same to an array of the elements' numbers. A rule may
return a function that wants to see the result.
"""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from lab.check.recorder import plain, read, touch_some, tracked_in, wrote
from lab.check.shadow import READ, WRITE

After = Callable[[Any], None] | None


def everything(_function: Any, inputs: tuple, named: dict) -> None:
    """All arguments are read, the first as far as a mask `where` says."""
    read(inputs[:1], named.get("where", True))
    read((inputs[1:], named))


def nothing(_function: Any, inputs: tuple, named: dict) -> None:
    """Only shapes and types count."""


def value(_function: Any, inputs: tuple, named: dict) -> None:
    """Of the first argument only shape and type count."""
    read((inputs[1:], named))


def views(_function: Any, inputs: tuple, named: dict) -> After:
    """An argument is read only if no result is a view of it."""
    sources = tracked_in([inputs, named])

    def after(result: Any) -> None:
        results = tracked_in(list(result) if isinstance(result, tuple) else result)
        for source in sources:
            viewed = any(np.may_share_memory(plain(array), plain(source)) for array in results)
            if not viewed and not (isinstance(result, np.ndarray) and result.size == 0):
                read(source)

    return after


def picks(function: Any, inputs: tuple, named: dict) -> None:
    """The first argument is read where the function takes from it."""
    source, *others = inputs
    read((others, named))

    def pick(numbers: np.ndarray) -> np.ndarray:
        taken = np.asarray(function(np.asarray(numbers + 1), *plain(tuple(others)), **plain(named)))
        return taken[taken > 0] - 1

    touch_some(source, pick, READ)


def traces(_function: Any, inputs: tuple, named: dict) -> None:
    """The diagonal is read."""
    picks(np.diagonal, inputs[:4], {key: named[key] for key in ("offset", "axis1", "axis2") if key in named})


def conditions(_function: Any, inputs: tuple, named: dict) -> None:
    """compress, extract: the condition comes first."""
    values = bind(
        ("condition", "a", "axis"), inputs, {"a" if key == "arr" else key: part for key, part in named.items()}
    )
    read(values["condition"])
    mask, axis = np.asarray(plain(values["condition"])), values.get("axis")
    if _function is np.extract:
        mask = mask.reshape(-1).astype(bool)
    picks(lambda numbers: np.compress(mask, numbers, axis), (values["a"],), {})


def where_(_function: Any, inputs: tuple, named: dict) -> None:
    """np.where(c, x, y) reads x where c holds and y elsewhere."""
    read(inputs[:1])
    if len(inputs) == 3:
        mask = np.asarray(plain(inputs[0]), dtype=bool)
        read(inputs[1], mask)
        read(inputs[2], ~mask)


def choices(_function: Any, inputs: tuple, named: dict) -> None:
    """choose(a, [c0, c1 ...]) reads c0 where a is 0, and so on."""
    values = bind(("a", "choices", "out", "mode"), inputs, named)
    read(values["a"])
    chosen, count = np.asarray(plain(values["a"])), len(values["choices"])
    chosen = chosen % count if values.get("mode") == "wrap" else np.clip(chosen, 0, count - 1)
    for number, choice in enumerate(values["choices"]):
        read(choice, chosen == number)


def selections(_function: Any, inputs: tuple, named: dict) -> None:
    """select(conditions, choices, default): each choice where its condition holds."""
    values = bind(("condlist", "choicelist", "default"), inputs, named)
    read(values["condlist"])
    for condition, choice in zip(values["condlist"], values["choicelist"], strict=True):
        read(choice, np.asarray(plain(condition)))
    read(values.get("default"), ~np.any([np.asarray(plain(one)) for one in values["condlist"]], axis=0))


def reads_and_writes(_function: Any, inputs: tuple, named: dict) -> None:
    """The first argument is changed in place."""
    read((inputs, named))
    wrote(inputs[:1])


def fills(_function: Any, inputs: tuple, named: dict) -> None:
    """The first argument is overwritten."""
    value(_function, inputs, named)
    wrote(inputs[:1])


def in_place(names: str, option: str, asked: bool) -> Callable:
    """A rule: the first argument is changed in place if the argument `option` is `asked` (true or false), and read if
    it is not. `names` are those of the arguments that may come by position."""

    def rule(function: Any, inputs: tuple, named: dict) -> None:
        changed = bool(bind(tuple(names.split()), inputs, named).get(option, not asked)) is asked
        (reads_and_writes if changed else everything)(function, inputs, named)

    return rule


def marks(value: str, *names: str) -> Callable:
    """A rule: the first of the arguments `names` is written where the function, given True as `value`, puts True into a
    mask."""

    def rule(function: Any, inputs: tuple, named: dict) -> None:
        values = bind(names, inputs, named)
        target, source = values.pop(names[0]), values.pop(value)
        values.pop("casting", None)
        read(source, values.get("where", True) if function is np.copyto else True)
        read(values)

        def pick(numbers: np.ndarray) -> np.ndarray:
            mask = np.zeros(numbers.shape, bool)
            function(mask, **{value: True}, **plain(values))
            return numbers[mask]

        touch_some(target, pick, WRITE)

    return rule


def bind(names: tuple[str, ...], inputs: tuple, named: dict) -> dict[str, Any]:
    """Arguments by name."""
    return dict(zip(names, inputs, strict=False)) | named


# --------------------------------------------------------------------------------------------------------------- tables


def functions(names: str) -> list[Callable]:
    """The numpy functions of these names, as far as this numpy has them."""
    return [getattr(np, name) for name in names.split() if hasattr(np, name)]


def methods(names: str) -> list[str]:
    """The array methods of these names, as far as this numpy has them."""
    return [name for name in names.split() if hasattr(np.ndarray, name)]


# Functions that are not named here read all of their arguments.
FUNCTIONS: dict[Callable, Callable] = {
    function: rule
    for rule, found in (
        (
            nothing,
            functions(
                "shape ndim size may_share_memory shares_memory result_type can_cast common_type einsum_path "
                "zeros_like empty_like ones_like iscomplexobj isrealobj isfortran min_scalar_type diag_indices_from "
                "tril_indices_from triu_indices_from"
            ),
        ),
        (value, [np.full_like]),
        (
            views,
            [
                *functions(
                    "reshape ravel transpose matrix_transpose permute_dims swapaxes moveaxis rollaxis squeeze "
                    "expand_dims broadcast_to broadcast_arrays einsum split array_split hsplit vsplit dsplit unstack "
                    "atleast_1d atleast_2d atleast_3d flip fliplr flipud rot90 diagonal diag ix_ meshgrid astype"
                ),
                np.linalg.diagonal,
                np.linalg.matrix_transpose,
                np.lib.stride_tricks.sliding_window_view,
            ],
        ),
        (picks, functions("take take_along_axis delete tril triu")),
        (traces, [np.trace]),
        (conditions, [np.compress, np.extract]),
        (where_, [np.where]),
        (choices, [np.choose]),
        (selections, [np.select]),
        (
            in_place("a", "overwrite_input", True),
            functions("median percentile quantile nanmedian nanpercentile nanquantile"),
        ),
        (in_place("x copy", "copy", False), [np.nan_to_num]),
        (marks("src", "dst", "src", "casting", "where"), [np.copyto]),
        (marks("vals", "arr", "mask", "vals"), [np.place]),
        (marks("values", "a", "mask", "values"), [np.putmask]),
        (marks("v", "a", "ind", "v", "mode"), [np.put]),
        (marks("val", "a", "val", "wrap"), [np.fill_diagonal]),
        (marks("values", "arr", "indices", "values", "axis"), [np.put_along_axis]),
    )
    for function in found
}
INSIDE = set(  # they work through operations on the tracked array itself, some of them the caller's
    functions("real imag iscomplex isreal real_if_close apply_along_axis piecewise")
)
METHODS: dict[str, Callable] = {
    name: rule
    for rule, found in (
        (
            everything,
            methods(
                "all any argmax argmin argpartition argsort clip copy cumprod cumsum dot dump dumps flatten max mean "
                "min nonzero prod ptp repeat round searchsorted std sum tobytes tofile tolist var __float__ __int__ "
                "__bool__ __index__ __complex__ __contains__ __copy__ __deepcopy__ __reduce__ __reduce_ex__ __repr__ "
                "__str__ __format__"
            ),
        ),
        (views, methods("reshape ravel astype conj conjugate __array__")),
        (picks, methods("take compress item")),
        (traces, ["trace"]),
        (choices, ["choose"]),
        (fills, ["fill"]),
        (reads_and_writes, ["sort", "partition"]),
        (in_place("a inplace", "inplace", True), ["byteswap"]),
        (marks("values", "a", "indices", "values", "mode"), ["put"]),
    )
    for name in found
}
OUT_POSITIONS = {  # of methods, the array itself not counted
    "all": 1, "any": 1, "argmax": 1, "argmin": 1, "choose": 1, "clip": 2, "compress": 2, "cumprod": 2, "cumsum": 2,
    "dot": 1, "max": 1, "mean": 2, "min": 1, "prod": 2, "ptp": 1, "round": 1, "std": 2, "sum": 2, "take": 2, "trace": 4,
    "var": 2,
}  # fmt: skip
KNOWN_OUT = {np.dot: 2, np.concatenate: 2, np.vdot: -1, np.inner: -1, np.where: -1}


@lru_cache(maxsize=512)
def out_position(function: Any) -> int:
    """At which place a function's out argument may stand; -1: only by name, or it has none."""
    if function in KNOWN_OUT:
        return KNOWN_OUT[function]
    if getattr(function, "__objclass__", None) is np.ndarray:
        return 1 + OUT_POSITIONS.get(function.__name__, -2)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return -1
    if "out" not in parameters or parameters["out"].kind is inspect.Parameter.KEYWORD_ONLY:
        return -1
    return list(parameters).index("out")
