"""A table of numpy's functions and methods: which elements each reads and writes, and what the race detector sees.

The expressions run as the program under check would run them, instrumented; `x` (float32), `i` (int64), `b` (bool), `z`
(complex64) and `r` (records) are one tracked array of shape (4, 6) of that type, `p` is it as a flat view, `q` is
[:, :4] of it. The table itself is tried too: an element that is said not to be read must not matter for the result.
"""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from lab.check import api, races
from lab.check.instrument import instrument
from lab.check.scheduler import Scheduler
from lab.check.shadow import READ, WRITE
from lab.check.strategies import Default

NUMBERS = np.arange(24).reshape(4, 6)
TYPES = {"x": "f4", "i": "i8", "b": "?", "z": "c8", "r": [("u", "f4"), ("v", "i4")]}
Q, NONE, ALL = np.s_[:, :4], None, ...

READ_ALL = """
np.all(x) np.allclose(x,x) np.amax(x) np.amin(x) np.angle(z) np.any(x) np.append(x,1) np.argmax(x) np.argmin(x)
np.argpartition(x,2) np.argsort(x) np.argwhere(x) np.around(x) np.array2string(x) np.array_equal(x,x)
np.array_equiv(x,x) np.array_repr(x) np.array_str(x) np.average(x) np.bincount(i.ravel()) np.block([[x],[x]])
np.choose(i%2,[0,1]) np.clip(x,0,9) np.column_stack([x,x]) np.concat([x,x]) np.concatenate([x,x])
np.convolve(p,[1,2]) np.copy(x) np.corrcoef(x) np.correlate(p,[1,2]) np.count_nonzero(x) np.cov(x)
np.cross(x[:,:3],x[:,3:]) np.cumprod(x) np.cumsum(x) np.cumulative_prod(p) np.cumulative_sum(p) np.diag(p)
np.diagflat(x) np.diff(x) np.digitize(x,[3,9]) np.dot(x,x.T) np.dstack([x,x]) np.ediff1d(x) np.einsum("ij->i",x)
np.fix(x) np.flatnonzero(x) np.geomspace(x+1,100) np.gradient(x) np.histogram(x) np.histogram2d(p,p)
np.histogram_bin_edges(x) np.histogramdd(x[:,:2]),x.sum() np.hstack([x,x]) np.i0(x) np.inner(x,x) np.insert(x,1,0)
np.interp(x,[0,24],[0,1]) np.intersect1d(x,[3]) np.isclose(x,3) np.isin(x,[3]) np.isneginf(x) np.isposinf(x)
np.kron(x,[1,2]) np.lexsort(x) np.linspace(x,30) np.logspace(x/30,1) np.max(x) np.mean(x) np.median(x) np.meshgrid(p,p)
np.min(x) np.nan_to_num(x) np.nanargmax(x) np.nanargmin(x) np.nancumprod(x) np.nancumsum(x) np.nanmax(x)
np.nanmean(x) np.nanmedian(x) np.nanmin(x) np.nanpercentile(x,3) np.nanprod(x) np.nanquantile(x,.2) np.nanstd(x)
np.nansum(x) np.nanvar(x) np.nonzero(x) np.outer(x,x) np.packbits(b) np.pad(x,1) np.partition(x,2) np.percentile(x,3)
np.piecewise(x,[x>3],[1,2]) np.poly(p/30) np.polyadd(p,[1]) np.polyder(p),x.sum() np.polydiv(p,[1,2]) np.polyfit(p,p,1)
np.polyint(p) np.polymul(p,[1,2]) np.polysub(p,[1]) np.polyval(p/30,2) np.prod(x) np.ptp(x) np.quantile(x,.2)
np.repeat(x,2) np.resize(x,(3,9)) np.roll(x,1) np.roots(p) np.round(x) np.searchsorted(p,p) np.setdiff1d(x,[3])
np.setxor1d(x,[3]) np.sinc(x) np.sort(x) np.sort_complex(x) np.stack([x,x]) np.std(x) np.sum(x) np.tensordot(x,x)
np.tile(x,2) np.trapezoid(x) np.trim_zeros(p) np.union1d(x,[3]) np.unique(x) np.unique_all(x) np.unique_counts(x)
np.unique_inverse(x) np.unique_values(x) np.unravel_index(i,(4,6)) np.ravel_multi_index((i,i),(30,30)) np.unwrap(x)
np.vander(p/30,3) np.var(x) np.vdot(x,x) np.vstack([x,x]) np.where(x>3) np.apply_along_axis(np.sum,0,x)
np.apply_over_axes(np.sum,x,[0]) np.isreal(z),z.sum() np.iscomplex(z),z.sum() np.linalg.cond(x) np.linalg.det(x@x.T)
np.linalg.eig(x@x.T) np.linalg.eigh(x@x.T) np.linalg.eigvals(x@x.T) np.linalg.eigvalsh(x@x.T)
np.linalg.lstsq(x,x) np.linalg.matmul(x,x.T) np.linalg.matrix_norm(x) np.linalg.matrix_power(x@x.T,2)
np.linalg.matrix_rank(x) np.linalg.multi_dot([x,x.T]) np.linalg.norm(x) np.linalg.outer(p,p) np.linalg.pinv(x)
np.linalg.qr(x) np.linalg.slogdet(x@x.T) np.linalg.svd(x) np.linalg.svdvals(x) np.linalg.tensordot(x,x)
np.linalg.trace(x@x.T) np.linalg.vecdot(x,x) np.linalg.vector_norm(x) np.linalg.cross(x[:,:3],x[:,3:])
np.linalg.solve(np.eye(4),x) np.linalg.inv(x[:2,:2]@x[:2,:2].T+np.eye(2)),x.sum()
np.linalg.cholesky(x@x.T+np.eye(4)*1e5) np.fft.fft(x) np.fft.fft2(x) np.fft.fftn(x) np.fft.fftshift(x) np.fft.hfft(z)
np.fft.ifft(x) np.fft.ifft2(x) np.fft.ifftn(x) np.fft.ifftshift(x) np.fft.ihfft(x) np.fft.irfft(z) np.fft.irfft2(z)
np.fft.irfftn(z) np.fft.rfft(x) np.fft.rfft2(x) np.fft.rfftn(x)
np.absolute(x) np.add(x,x) np.arctan2(x,1) np.bitwise_and(i,1) np.bitwise_count(i) np.cbrt(x) np.ceil(x) np.conjugate(z)
np.copysign(1,x) np.cos(x) np.divmod(x,3) np.equal(x,3) np.exp(x) np.frexp(x) np.gcd(i,6) np.greater(x,3) np.hypot(x,1)
np.invert(i) np.isfinite(x) np.isnan(x) np.ldexp(x,1) np.left_shift(i,1) np.logaddexp(x,1) np.logical_not(x)
np.matmul(x,x.T) np.matvec(x,[1,2,3,4,5,6]) np.maximum(x,3) np.modf(x) np.negative(x) np.power(x,2) np.sqrt(x)
np.vecdot(x,x) np.vecmat([1,2,3,4],x) np.add.reduce(x) np.add.accumulate(x) np.multiply.outer(x,[1,2])
np.array(x) np.array([x,x]) np.asarray(x,dtype=float) np.asanyarray(x,float) np.ascontiguousarray(x.T)
np.asfortranarray(x) np.require(x,float) np.asarray_chkfinite(x),x.sum() np.fromiter(p,float) np.vectorize(str)(x)
np.frompyfunc(str,1,1)(x) list(np.nditer(x))and[v.copy()for(v)in(np.nditer(x))] [(v+0)for(v)in(np.nditer(x))]
[(v+0)for(v)in(np.nditer(x,flags=["buffered"],op_dtypes=["f8"],casting="same_kind"))] list(np.ndenumerate(x))
np.random.default_rng(1).permutation(x) np.random.default_rng(1).choice(p,3,p=p/p.sum()),x.sum()
np.random.default_rng(1).poisson(np.abs(x))
np.random.default_rng(1).permuted(x) np.random.RandomState(1).permutation(x) bytes(x) bytearray(x) list(x.flat)
sum(x.flat) x.flat.copy() x.flat==3 np.array(x.flat) max(p) sorted(p) [float(v)for(v)in(p)] (3)in(p) f"{x}" str(x)
repr(x)
x.all() x.any() x.argmax() x.argmin() x.argpartition(2) x.argsort() x.astype(float) x.byteswap() (i%2).choose([0,1])
x.clip(0,9) z.conj() z.conjugate() x.copy() x.cumprod() x.cumsum() x.dot(x.T) x.dumps() x.flatten() x.T.ravel()
x.T.reshape(-1) x.max() x.mean() x.min() x.nonzero() x.prod() x.repeat(2) x.round() p.searchsorted(p) x.std() x.sum()
x.tobytes() x.tolist() x.var() x.__copy__() x.__deepcopy__({}) x.__reduce__() x.__array__(float) x+1 1-x x@x.T x>3 -x
x**2 abs(x) divmod(x,3) x[x>=0] x[[0,1,2,3]] z.real+z.imag r["u"]+r["v"] r.tolist() x.view("i4")+0 x.view("u1").sum()
"""

READ_NONE = """
np.shape(x) np.ndim(x) np.size(x) len(x) x.size x.nbytes x.dtype x.strides x.flags np.empty_like(x).shape
np.zeros_like(x) np.ones_like(x) np.full_like(x,3) np.einsum_path("ij->i",x)[0] np.iscomplexobj(x) np.isrealobj(x)
np.result_type(x) np.can_cast(x.dtype,float) np.common_type(x) np.may_share_memory(x,x) np.shares_memory(x,x)
np.isfortran(x)
np.reshape(x,-1) np.ravel(x) np.transpose(x) np.matrix_transpose(x) np.permute_dims(x,(1,0)) np.swapaxes(x,0,1)
np.moveaxis(x,0,1) np.rollaxis(x,1) np.squeeze(x) np.expand_dims(x,0) np.broadcast_to(x,(2,4,6))
np.broadcast_arrays(x,x)
np.split(x,2) np.array_split(x,3) np.hsplit(x,2) np.vsplit(x,2) np.dsplit(x[None],2) np.unstack(x) np.atleast_1d(x)
np.atleast_2d(x) np.atleast_3d(x) np.flip(x) np.fliplr(x) np.flipud(x) np.rot90(x) np.diagonal(x) np.diag(x)
np.ix_(p) np.meshgrid(p,p,copy=False) np.real(z) np.imag(z) np.real(x) np.imag(x) np.isreal(x) np.iscomplex(x)
np.real_if_close(x) np.astype(x,"f4",copy=False) np.linalg.diagonal(x) np.linalg.matrix_transpose(x)
np.lib.stride_tricks.sliding_window_view(p,3) np.lib.stride_tricks.as_strided(x,(2,3),(4,8)) np.asarray(x)
np.asanyarray(x) np.ascontiguousarray(x) np.array(x,copy=False) np.frombuffer(x,"f4") np.nditer(x) np.iterable(x)
np.diag_indices_from(q) np.tril_indices_from(x) np.triu_indices_from(x) np.min_scalar_type(x) x.T x.mT x.reshape(-1)
x.ravel() x.transpose() x.swapaxes(0,1) x.squeeze() x.view("i4") x.view() x.real z.imag x.conj() x.diagonal()
x.astype("f4",copy=False) x.getfield("u1") x.flat x[1:3] x[...,None] r["u"] x[:0].sum() x[[]] type(x)
isinstance(x,np.ndarray) np.random.default_rng(1).random(x.shape)
"""

EXACT = [
    ("x[2,3]", (2, 3), NONE),
    ("x[-1,-2]", (3, 4), NONE),
    ("x.item(3)", (0, 3), NONE),
    ("x[1,1:2].reshape(()).item()", (1, 1), NONE),
    ("float(x[1,1:2][0])", (1, 1), NONE),
    ("x.flat[7]", (1, 1), NONE),
    ("x.flat[2:4]", np.s_[0, 2:4], NONE),
    ("x[[1,3]]", [1, 3], NONE),
    ("x[:,[1,3]]", np.s_[:, [1, 3]], NONE),
    ("x[NUMBERS%7==3]", NUMBERS % 7 == 3, NONE),
    ("x[::-2,::-1].sum()", np.s_[::-2], NONE),
    ("q.sum()", Q, NONE),
    ("np.take(x,[1,2])", np.s_[0, 1:3], NONE),
    ("np.take(x,[1,2],axis=1)", np.s_[:, 1:3], NONE),
    ("x.take([0],0)", 0, NONE),
    ("np.take_along_axis(x,NUMBERS[:1]%4,0)", (NUMBERS[:1] % 4, NUMBERS[:1]), NONE),
    ("np.compress([0,1,0,1],x,axis=0)", [1, 3], NONE),
    ("x.compress([0,1,0,1],axis=1)", np.s_[:, [1, 3]], NONE),
    ("np.extract(NUMBERS%5==0,x)", NUMBERS % 5 == 0, NONE),
    ("np.delete(x,1,axis=0)", [0, 2, 3], NONE),
    ("np.tril(x)", np.tril(np.ones((4, 6), bool)), NONE),
    ("np.triu(x,1)", np.triu(np.ones((4, 6), bool), 1), NONE),
    ("np.trace(x)", ([0, 1, 2, 3], [0, 1, 2, 3]), NONE),
    ("x.trace(1)", ([0, 1, 2, 3], [1, 2, 3, 4]), NONE),
    ("np.where(NUMBERS<6,x,0)", 0, NONE),
    ("np.where(NUMBERS<6,0,x)", [1, 2, 3], NONE),
    ("np.choose(NUMBERS//6%2,[x,0])", [0, 2], NONE),
    ("np.select([NUMBERS<6,NUMBERS<12],[x,0],-1)", 0, NONE),
    ("np.sum(x,where=NUMBERS<6)", 0, NONE),
    ("np.mean(x,where=NUMBERS<12)", [0, 1], NONE),
    ("x.max(where=NUMBERS<12,initial=0)", [0, 1], NONE),
    ("np.add(x,1,where=NUMBERS<6,out=np.zeros((4,6),'f4'))", 0, NONE),
    ("np.add.reduce(x,axis=None,where=NUMBERS<6)", 0, NONE),
    ("np.add.reduceat(x,[1,3],axis=1)", np.s_[:, 1:], NONE),
    ("np.trace(x[1:,1:])", ([1, 2, 3], [1, 2, 3]), NONE),
    ("np.lib.stride_tricks.sliding_window_view(p,3)[2].sum()", np.s_[0, 2:5], NONE),
    ("np.lib.stride_tricks.as_strided(x,(2,3),(4,8)).sum()", np.s_[0, :6], NONE),
    ("np.broadcast_to(x[1],(3,6)).sum()", 1, NONE),
    ("np.einsum('ii->i',x[:,:4])[1:].sum()", ([1, 2, 3], [1, 2, 3]), NONE),
    ("np.split(x,2)[1].sum()", [2, 3], NONE),
    ("np.rot90(x)[0].sum()", np.s_[:, 5], NONE),
    ("np.asarray(x)[1].sum()", 1, NONE),
    ("x.view(np.ndarray)[1].sum()", 1, NONE),
    ("np.nan_to_num(x,copy=False)", ALL, ALL),
    ("np.dot(np.eye(6,dtype='f4'),x[0],out=x[1])", 0, 1),
    ("np.dot(np.eye(6,dtype='f4'),x[0],x[1])", 0, 1),
    ("np.matmul(x[:1,:2],np.ones((2,3),'f4'),out=x[1:2,:3])", np.s_[0, :2], np.s_[1, :3]),
    ("np.multiply(x[0],2,x[3])", 0, 3),
    ("np.exp(x[0],out=x[1],where=[1,0,0,1,0,0])", np.s_[0, [0, 3]], np.s_[1, [0, 3]]),
    ("np.modf(x[0],x[1],x[2])", 0, [1, 2]),
    ("np.mean(x[:2],axis=1,out=x[3,:2])", [0, 1], np.s_[3, :2]),
    ("np.sum(x[:2],1,None,x[3,:2])", [0, 1], np.s_[3, :2]),
    ("x[:2].sum(1,None,x[3,:2])", [0, 1], np.s_[3, :2]),
    ("x[0].take([1,2],None,x[1,:2])", np.s_[0, 1:3], np.s_[1, :2]),
    ("np.cumsum(x[0],out=x[1])", 0, 1),
    ("np.concatenate([x[0,:3],x[1,:3]],out=x[2])", np.s_[:2, :3], 2),
    ("np.stack([x[0]],out=x[1:2])", 0, 1),
    ("np.clip(x[0],1,2,x[1])", 0, 1),
    ("np.einsum('i->i',x[0],out=x[1])", 0, 1),
    ("np.add.at(x,([0,0,2],[1,1,5]),1)", ([0, 2], [1, 5]), ([0, 2], [1, 5])),
    ("np.copyto(x[3],x[0])", 0, 3),
    ("np.copyto(x[3],x[0],where=[1,0,0,1,0,0])", np.s_[0, [0, 3]], np.s_[3, [0, 3]]),
    ("np.put(x,[1,8],[5,6])", NONE, ([0, 1], [1, 2])),
    ("x.put([1,8],5)", NONE, ([0, 1], [1, 2])),
    ("np.place(x,NUMBERS%7==3,[1,2])", NONE, NUMBERS % 7 == 3),
    ("np.putmask(x,NUMBERS%7==3,-1)", NONE, NUMBERS % 7 == 3),
    ("np.fill_diagonal(x,-1)", NONE, ([0, 1, 2, 3], [0, 1, 2, 3])),
    ("np.put_along_axis(x,NUMBERS[:1]%4,-1,0)", NONE, (NUMBERS[:1] % 4, NUMBERS[:1])),
    ("np.median(x[0],overwrite_input=True)", 0, 0),
    ("x.fill(1)", NONE, ALL),
    ("x[:,5].fill(1)", NONE, np.s_[:, 5]),
    ("x[0].sort()", 0, 0),
    ("x[0].partition(2)", 0, 0),
    ("x[0].byteswap(True)", 0, 0),
    ("x.setfield(3,'u1')", NONE, ALL),
    ("x.__setitem__((0,5),1)", NONE, (0, 5)),
    ("x.__setitem__(0,x[1])", 1, 0),
    ("x.__setitem__((...,2),0)", NONE, np.s_[..., 2]),
    ("x.__setitem__(NUMBERS%7==3,0)", NONE, NUMBERS % 7 == 3),
    ("x.__setitem__(([0,2],[1,1]),0)", NONE, ([0, 2], [1, 1])),
    ("x.T.__setitem__(0,5)", NONE, np.s_[:, 0]),
    ("x.flat.__setitem__(slice(2,4),0)", NONE, np.s_[0, 2:4]),
    ("setattr(x[0],'flat',1)", NONE, 0),
    ("setattr(z[0],'real',1)", NONE, 0),
    ("x[1].__iadd__(1)", 1, 1),
    ("np.random.default_rng(1).random(out=x[0],dtype='f4')", NONE, 0),
    ("np.random.default_rng(1).standard_normal(out=x[0],dtype='f4')", NONE, 0),
    ("np.random.default_rng(2).shuffle(x)", ALL, ALL),
    ("np.random.default_rng(1).permuted(x[:2],axis=1,out=x[2:])", [0, 1], [2, 3]),
    ("np.random.RandomState(1).shuffle(x)", ALL, ALL),
    ("[v.__setitem__(...,0)for(v)in(np.nditer(x,op_flags=['readwrite']))]", NONE, ALL),
    ("np.nditer(x[0],['buffered'],['readwrite'],'f8',casting='same_kind').close()", 0, 0),
    ("r['u'].sum()", ALL, NONE),
    ("r.__setitem__('u',1)", NONE, ALL),
    ("r['u'][0].fill(1)", NONE, 0),
    ("x.view('i4')[0].fill(1)", NONE, 0),
    ("memoryview(x)[0,0]", ALL, NONE),
]

TABLE = [(text, ALL, NONE) for text in READ_ALL.split()] + [(text, NONE, NONE) for text in READ_NONE.split()] + EXACT
IDS = [f"{number}-{text[:40]}" for number, (text, _read, _written) in enumerate(TABLE)]


def elements(index) -> set[int]:
    """The numbers of the elements of x[index]."""
    return set(np.atleast_1d(NUMBERS[index]).reshape(-1).tolist()) if index is not None else set()


def memory_for(text: str) -> np.ndarray:
    """The array that an expression is about."""
    letter = next((letter for letter in "izbr" if re.search(rf"\b{letter}\b", text)), "x")
    if letter == "b":
        return NUMBERS % 3 == 0
    return (NUMBERS if letter == "i" else (NUMBERS * 7 % 24 + 1)).astype(TYPES[letter])


def evaluate(text: str, array: np.ndarray, additions: dict | None = None):
    """The value of an expression, instrumented or not."""
    names = dict.fromkeys("xizbr", array) | {"NUMBERS": NUMBERS, "np": np}
    tree = ast.parse(f"def run({', '.join(names)}):\n    p, q = x.reshape(-1), x[:, :4]\n    return {text}\n")
    module: dict = {"__loop__": lambda line, weight: True} | (additions or {})
    exec(compile(instrument(tree, False, bool(additions)), "program.py", "exec"), module)
    return module["run"](**names)


class Seen:
    """What the detector sees of an expression."""

    def __init__(self, text: str) -> None:
        detector = races.Detector()
        detector.scheduler = Scheduler(Default(), traced=True, clocks=detector.clocks, user_file="program.py")
        self.memory = memory_for(text)
        self.result = None

        def body() -> None:
            array = detector.track(self.memory, "x")
            self.result = evaluate(text, array, detector.additions())
            self.result = np.asarray(self.result) if isinstance(self.result, np.ndarray) else self.result
            array._memory.make_planes()
            self.shadow = array._memory

        failure = detector.scheduler.run(body)
        assert failure is None, failure.exception
        touched = self.shadow.planes[0, :, 0] > 0
        units = np.arange(touched.shape[1]) // (touched.shape[1] // 24)
        self.reads = set(units[touched[READ]].tolist())
        self.writes = set(units[touched[WRITE]].tolist())


@pytest.mark.parametrize(("text", "read", "written"), TABLE, ids=IDS)
def test_operation_touches_exactly_these_elements_and_gives_the_same(text, read, written):
    seen = Seen(text)
    assert (seen.reads, seen.writes) == (elements(read), elements(written))
    memory = memory_for(text)
    result = evaluate(text, memory)
    np.testing.assert_array_equal(seen.memory, memory)
    if isinstance(result, np.ndarray | np.generic | int | float | str | bytes):
        assert type(result) is type(seen.result)
        np.testing.assert_array_equal(seen.result, result)


@pytest.mark.parametrize(("text", "read", "written"), TABLE, ids=IDS)
def test_the_table_is_right_about_numpy(text, read, written):
    """Elements that are not read do not matter; what is not written stays."""
    if "np.empty_like" in text:
        return
    first = memory_for(text)
    second = first.copy()
    others = np.array(sorted(elements(ALL) - elements(read)), int)
    second.reshape(-1)[others] = np.roll(first.reshape(-1), 5)[others]
    before = first.copy(), second.copy()
    results = [evaluate(text, array) for array in (first, second)]
    written_to = elements(written)
    changed = {
        at
        for array, old in zip((first, second), before, strict=True)
        for at in np.flatnonzero(array.reshape(-1) != old.reshape(-1)).tolist()
    }
    assert changed <= written_to
    assert changed or not written_to or "nan_to_num" in text or "buffered" in text or "overwrite_input" in text
    for at in written_to:
        if not elements(read):
            assert first.reshape(-1)[at] == second.reshape(-1)[at] or first.dtype.names or "setfield" in text
    if read is not NONE and isinstance(results[0], np.generic | int | float | str | bytes):
        np.testing.assert_array_equal(*results)


def test_the_table_covers_numpy():
    """At least 93 % of numpy's dispatched functions and of the array methods that touch elements."""
    rooms = {"np.": np, "np.linalg.": np.linalg, "np.fft.": np.fft, "np.lib.stride_tricks.": np.lib.stride_tricks}
    public = {
        prefix + name
        for prefix, room in rooms.items()
        for name in dir(room)
        if not name.startswith("_") and hasattr(getattr(room, name), "_implementation")
    }
    methods = {
        f".{name}"
        for name in dir(np.ndarray)
        if not name.startswith("_") and callable(getattr(np.ndarray, name)) and name not in ("setflags", "to_device")
    }
    text = " ".join(text for text, _read, _written in TABLE)
    missing = sorted(name for name in public | methods if not re.search(rf"{re.escape(name)}\b\(", text))
    assert len(missing) <= 0.07 * len(public | methods), missing


# ------------------------------------------------------------------------------ what two threads do to arrays of a kind


RECORDS = "r = np.rec.array([(1.0, 2), (3.0, 4)], dtype=[('x', 'f8'), ('y', 'i4')])"
MASKED = "m = np.ma.array(np.arange(6.0), mask=np.zeros(6, bool))"
OBJECTS = "o = np.array([np.zeros(2), np.zeros(3)], dtype=object)"
FIELDS = "f = np.zeros(3, dtype=[('x', 'f8'), ('y', 'i4'), ('z', 'f8')])"
ITERATED = "a = np.zeros(2); it = np.nditer(a, op_flags=['readwrite'])"
PAIRS = [  # how it is made, what one thread does, what the other does, what the race is on ("": there is none)
    (RECORDS, "r.x[0] = 5", "r.x[0] = 6", "r"),
    (RECORDS, "r.x = 5", "r.x = 6", "r"),
    (RECORDS, "r.x = 5", "r.y = 6", ""),
    (RECORDS, "row = r[0]; row.x = 5", "r[0].x += 1", "r"),
    (RECORDS, "row = r[0]; row.x = 5; row['y'] += 1", "r[1].x += 1; r[1]['y'] = 1; t = r[1].item()", ""),
    (RECORDS, "r[0].x = 5", "t = r[0].y", ""),
    (RECORDS, "r[0].x = 5", "print(r)", "r"),
    (RECORDS, "t = type(r), type(r[0]), r.dtype, len(r)", "r[0] = (1, 2); r[1].x = 3", ""),
    ("r = np.zeros(2, dtype=[('x', 'f8'), ('y', 'i4')])", "r[0]['x'] = 5", "print('one:', r[0])", "r"),
    ("a = np.zeros(3)", "a[0] = 5", "print(a)", "a"),
    (MASKED, "m[0] = 1", "m[0] = 2", "m"),
    (MASKED, "m[:3] = 1", "m[3:] = 2", ""),
    (MASKED, "m.mask[1] = True", "t = m.sum()", "m.mask"),
    (MASKED, "m[1] = np.ma.masked", "t = m.sum()", "m.mask"),
    (MASKED, "t = m.mean(), m + 1, m[2:4].max()", "t = m.sum(), m.filled(0), m.count()", ""),
    (OBJECTS, "o[0][1] = 1", "o[0][1] = 2", "o"),
    (OBJECTS, "o[0][1] = 1", "o[1][1] = 2", ""),
    (OBJECTS, "o[0] = None", "t = o[0]", "o"),
    (FIELDS, "f[['x', 'z']] = f[['x', 'z']]", "f['y'] += 1", ""),
    (FIELDS, "f[['x', 'z']] = f[['x', 'z']]", "f['z'] += 1", "f"),
    (FIELDS, "t = f[['x', 'z']].tolist()", "f['z'] += 1", "f"),
    (FIELDS, "t = f[['x', 'z']].tolist()", "f['y'] += 1", ""),
    (ITERATED, "it[0] = 1", "a[0] = 2", "a"),
    (ITERATED, "t = it[0] + 1", "a[0] = 2", "a"),
    (ITERATED, "it[0] = 1", "a[1] = 2", ""),
    ("b = bytearray(4)", "memoryview(b)[2:][0] = 1", "memoryview(b)[1:][1] += 1", "memoryview(b)"),
    ("b = bytearray(4)", "memoryview(b)[2:][0] = 1", "b[1] += 1; b[3:] = b'x'", ""),
    ("b = bytearray(8)", "memoryview(b).cast('i')[1] = 1", "b[3] += 1", ""),
]


@pytest.mark.parametrize(("made", "one", "two", "on"), PAIRS)
def test_a_race_is_told_where_there_is_one(made, one, two, on, tmp_path: Path):
    path = tmp_path / "pair.py"
    path.write_text(
        "import numpy as np\nfrom lab.threadlib import join, spawn\n\n"
        f"def main():\n    {made}\n    def one(number):\n        {one}\n    def two(number):\n        {two}\n"
        "    spawn(one)\n    spawn(two)\n    join()\n"
    )
    found = api.check_races(path, schedules=4).findings
    assert {finding.kind for finding in found} == ({"race"} if on else set()), found
    names = {"the array" if "the array made" in finding.message else finding.message.split()[0] for finding in found}
    assert all(name.startswith(on) or name == "the array" for name in names)


def test_an_array_that_has_lost_all_its_elements_can_still_be_gone_through():
    """It has no memory any more that could tell of accesses."""
    detector = races.Detector()
    detector.scheduler = Scheduler(Default(), traced=True, clocks=detector.clocks, user_file="program.py")
    found = []

    def body() -> None:
        array = detector.track(np.zeros(4), "x")
        array.resize(0)
        array.flat[:] = 1
        found.append((array._memory, array.flat[:].size))

    failure = detector.scheduler.run(body)
    assert failure is None, failure.exception
    assert found == [(None, 0)]
