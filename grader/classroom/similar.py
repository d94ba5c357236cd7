"""Near-identical submissions, as a hint for a person to look at: winnowing (Schleimer, Wilkerson and Aiken 2003), the
method behind MOSS and Dolos.

A program becomes a sequence of tokens in which names and literals count as one each, so that renaming changes nothing.
Each run of GRAM tokens has a hash; of each WINDOW neighbouring hashes the smallest is kept. Two programs are similar if
they share many of these fingerprints. What the starter holds is everybody's, and so is what many have.
"""

import io
import keyword
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import NamedTuple
from zlib import crc32

GRAM, WINDOW = 12, 8
COMMON = 0.2  # share of a class, from which on a fingerprint is nobody's own (in classes of 10 and more)
SIMILAR = 0.6  # share of the smaller one's fingerprints
LEAST = 8  # fingerprints of one's own, below which nothing can be said
SKIPPED = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER)


class Pair(NamedTuple):
    """Two students whose programs share a large part: share is 0 to 1, of the smaller program's own fingerprints."""

    first: str
    second: str
    share: float


def groups(pairs: Iterable[Pair]) -> list[dict]:
    """Pairs that have somebody in common become one group, the most similar first: who, least and most share."""
    group_of: dict[str, dict] = {}
    for pair in pairs:
        merged = {"who": [], "least": pair.share, "most": pair.share}
        for student in pair.first, pair.second:
            group = group_of.get(student, {"who": [student], "least": pair.share, "most": pair.share})
            if student not in merged["who"]:
                merged["who"] += group["who"]
            merged["least"] = min(merged["least"], group["least"])
            merged["most"] = max(merged["most"], group["most"])
        group_of |= dict.fromkeys(merged["who"], merged)
    found = {id(group): group for group in group_of.values()}.values()
    return sorted(found, key=lambda group: (-group["most"], -len(group["who"]), group["who"]))


def words_of(source: bytes) -> list[str]:
    """A program's tokens, names and literals made equal; as many as can be read."""
    words = []
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            match token.type:
                case tokenize.NAME if not keyword.iskeyword(token.string):
                    words.append("name")
                case tokenize.NUMBER | tokenize.STRING:
                    words.append("literal")
                case tokenize.NAME | tokenize.OP:
                    words.append(token.string)
                case kind if kind not in SKIPPED:
                    words.append(tokenize.tok_name[kind])
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        pass  # not a whole program: what was read up to there
    return words


def fingerprints(source: bytes) -> frozenset[int]:
    """The hashes that winnowing keeps."""
    words = words_of(source)
    hashes = [crc32("\0".join(words[i : i + GRAM]).encode()) for i in range(len(words) - GRAM + 1)]
    windows = range(max(1, len(hashes) - WINDOW + 1))
    return frozenset(min(hashes[i : i + WINDOW]) for i in windows) if hashes else frozenset()


def similar(programs: Mapping[str, bytes], given: Iterable[bytes] = ()) -> list[Pair]:
    """Pairs of students, the most similar first. given: files that everybody starts from."""
    everybody = frozenset().union(*(fingerprints(source) for source in given))
    own = {who: fingerprints(source) - everybody for who, source in programs.items()}
    holders: dict[int, list[str]] = defaultdict(list)
    for who, marks in own.items():
        for mark in marks:
            holders[mark].append(who)
    most = COMMON * len(programs) if len(programs) >= 10 else len(programs)
    shared: Counter[tuple[str, str]] = Counter()
    kept: Counter[str] = Counter()
    for who in holders.values():
        if len(who) <= max(2, most):
            kept.update(who)
            shared.update(combinations(sorted(who), 2))
    pairs = [Pair(a, b, n / min(kept[a], kept[b])) for (a, b), n in shared.items() if min(kept[a], kept[b]) >= LEAST]
    return sorted((pair for pair in pairs if pair.share >= SIMILAR), key=lambda pair: (-pair.share, pair))
