"""The points table and the partial-credit function."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("points.toml")
SHARES = ("no_credit", "full_credit", "floor", "busy_at_one", "cpu_ratio", "share_of_worker", "capacity")


class PointsError(Exception):
    """A points table that cannot be used; the message is one line."""


@dataclass(frozen=True)
class Points:
    """What points.toml says."""

    points: dict[str, float]  # runs, public, hidden, imports, workers, quiet, scaling
    workers: tuple[int, ...]  # the numbers of workers whose scaling counts
    scaling: dict[str, float]  # thresholds, see points.toml
    deductions: dict[str, float]  # kind of finding -> points; "most" -> the most of all together

    def credit(self, gain: float) -> float:
        """0 to 1 for a share of the possible gain: 0 up to no_credit, 1 from full_credit, straight in between."""
        low, high = self.scaling["no_credit"], self.scaling["full_credit"]
        return min(1.0, max(0.0, (gain - low) / (high - low)))


def gain(ratio: float, capacity: float) -> float:
    """The share of what k cores can gain over one that was gained: (E_k - 1) / (C_k - 1)."""
    return (ratio - 1) / (capacity - 1)


def load(path: str | Path = TABLE) -> Points:
    """Read a points table. Raises PointsError."""
    default = tomllib.loads(TABLE.read_text())
    try:
        table = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PointsError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    for section, entries in table.items():
        known = default.get(section)
        if not isinstance(entries, dict) or known is None:
            raise PointsError(f"{path}: unknown entry {section}; a points table has {', '.join(default)}")
        unknown = entries.keys() - known.keys()
        if unknown:
            raise PointsError(f"{path}: unknown entry {section}.{min(unknown)}; there are {', '.join(known)}")
        wrong = [key for key, value in entries.items() if not well_formed(key, value)]
        if wrong:
            raise PointsError(f"{path}: {section}.{wrong[0]} must be a number, not negative (workers: a list of such)")
    merged = {section: {**default[section], **table.get(section, {})} for section in default}
    scaling = merged["scaling"]
    workers = tuple(scaling.pop("workers"))
    if scaling["no_credit"] >= scaling["full_credit"]:
        raise PointsError(f"{path}: scaling.no_credit must be less than scaling.full_credit")
    return Points(merged["points"], workers, scaling, merged["deductions"])


def well_formed(key: str, value: object) -> bool:
    """Whether a table's entry is of the right kind."""
    if key == "workers" and isinstance(value, list):
        return bool(value) and all(isinstance(k, int) and k >= 2 for k in value)
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
