"""Whole programs written for parmapper, in which only the import line is another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import run_script, write_script

EXAMPLES = """
import manyhands.compat.parmapper as parmapper
from manyhands.compat.parmapper import ParEval, ReturnProcess

items, itemsA, itemsB, itemC = range(10), range(10), range(10, 20), 100

# -- usage: in place of a loop, or of map

def do_something(item):
    result = item + 1
    return result

results = list(parmapper.parmapper(do_something,items))
assert results == list(range(1, 11))

def proc(item):
    result = item * item
    return result
results = list(map(proc,items))
assert list(parmapper.parmap(proc,items)) == results

# -- star and kwstar

def do_something(itemA,itemB):
    result = (itemA, itemB)
    return result

results = list(parmapper.parmap(do_something,zip(itemsA,itemsB),star=True))
assert results == list(zip(itemsA, itemsB))

def do_something(item,opt=False):
    result = (item, opt)
    return result

results = list(parmapper.parmap(do_something,
                             zip(items,[{'opt':(i%2==0)} for i in range(10)]),
                             kwstar=True))
assert results == [(i, i % 2 == 0) for i in range(10)]

def do_something(itemA,itemB,opt=False):
    result = (itemA, itemB, opt)
    return result

itemsAB = zip(itemsA,itemsB)
kws = [{'opt':(i%2==0)} for i in range(10)]

results = list(parmapper.parmap(do_something,zip(itemsAB,kws),
                             star=True,kwstar=True))
assert results == [(i, 10 + i, i % 2 == 0) for i in range(10)]

def do_something(itemA,itemB,itemC,opt=False,opt2=True):
    result = (itemA, itemB, itemC, opt, opt2)
    return result

itemsAB = zip(itemsA,itemsB)
kws = [{'opt':(i%2==0)} for i in range(10)]

results = list(parmapper.parmap(do_something,zip(itemsAB,kws),
                             star=True,kwstar=True,
                             args=(itemC,),kwargs={'opt2':False}))
assert results == [(i, 10 + i, 100, i % 2 == 0, False) for i in range(10)]

# -- ReturnProcess

def slow(x, kw):
    return ("slow", x, kw)

def slower(x, kw):
    return ("slower", x, kw)

arg1, arg2, arg3, arg4 = range(4)
p1 = ReturnProcess(slow,args=(arg1,),kwargs={'kw':arg2}).start()
p2 = ReturnProcess(slower,args=(arg3,),kwargs={'kw':arg4}).start()
res1,res2 = p1.join() , p2.join()
assert (res1, res2) == (("slow", 0, 1), ("slower", 2, 3))

# -- ParEval

import numpy

def fun(X):
    return X.sum(axis=1)

X = numpy.arange(30).reshape(10, 3)
results = fun(X)
parfun = ParEval(fun)
assert (parfun(X) == results).all()

# -- in a chain of generators

try:
    from itertools import imap # python 2
except ImportError:
    imap = map

from manyhands.compat.parmapper import parmap

def data_load_generator():
    yield from range(50)

def preprocess(x):
    return x + 1

def expensive_computation(x):
    return x * x

def postprocess(x):
    return x - 1

data = data_load_generator()
data = imap(preprocess,data)
data = parmap(expensive_computation,data)
data = imap(postprocess,data)

# Execute the analysis chain
data = list(data)
assert data == [(x + 1) ** 2 - 1 for x in range(50)]

# -- start methods

import manyhands.compat.parmapper as parmap
parmap.set_start_method()
assert list(parmap.parmap(proc, items)) == [i * i for i in items]
print("passed")
"""

CHECKS = """
import multiprocessing
import manyhands.compat.parmapper as parmapper

if sys.argv[1] == "fork":
    parmapper.set_start_method()

turn = multiprocessing.Lock()  # can't be pickled

def one(i, t=0.5):
    with turn:
        print(end=".", flush=True)
    return i, t

def two(i, j, t=0.5):
    with turn:
        print(end=".", flush=True)
    return i + j, t

ten = range(10)
halves = [i / 2 for i in ten]
sums = [2 * i for i in ten]
plain, quick = [(i, 0.5) for i in ten], [(i, 0.25) for i in ten]
varied = list(zip(ten, halves))

def both(times):
    return list(zip(sums, times))

for N in (1, 2, 4):
    def check(expected, *given, **options):
        got = list(parmapper.parmap(*given, N=N, **options))
        assert got == expected, (N, options, got)

    check(plain, one, ten)
    check(quick, one, ten, kwargs={"t": 0.25})
    check(quick, one, ten, args=(0.25,))
    check(varied, one, ((i, {"t": i / 2}) for i in ten), kwstar=True)
    check(varied, one, zip(ten, halves), star=True)
    check(both([0.5] * 10), two, zip(ten, ten), star=True)
    check(both([0.25] * 10), two, zip(ten, ten), star=True, kwargs={"t": 0.25})
    check(both([0.25] * 10), two, zip(ten, ten), star=True, args=(0.25,))
    keywords = [{"t": t} for t in halves]
    check(both(halves), two, zip(zip(ten, ten), keywords), star=True, kwstar=True)
    check(both(halves), two, zip(ten, ten, halves), star=True)
    check(both(halves), two, zip(zip(ten, ten), keywords), star=True, kwstar=True, kwargs={"t": 1})
    check(list(ten), lambda a: a, ten)
    check(sums, lambda a, b: a + b, zip(ten, ten), star=True)
    check([i + 2 for i in ten], lambda a, b=2: a + b, ten)
    check([i + 3 for i in ten], lambda a, b=2: a + b, ten, kwargs={"b": 3})
    check(sums, lambda a, b=2: a + b, zip(ten, [{"b": i} for i in ten]), kwstar=True)
    thrice = zip(zip(ten, ten), [{"c": i} for i in ten])
    check([3 * i for i in ten], lambda a, b, c=2: a + b + c, thrice, kwstar=True, star=True)
    for Nt in (2, 4):
        check(quick, one, ten, Nt=Nt, kwargs={"t": 0.25})
"""

PRINTED = 3 * (11 + 2) * 10
"""The calls of ``one`` and ``two``."""


def test_the_examples_of_the_document(tmp_path: Path) -> None:
    """The examples of parmapper's document run, with nothing changed but the import."""
    assert run_script(write_script(tmp_path / "program.py", EXAMPLES)) == "passed\n"


@pytest.mark.parametrize("method", ["fork", "as it is"])
def test_what_parmapper_checks_of_itself(tmp_path: Path, method: str) -> None:
    """Fixed and varied arguments, keywords, threads and lambdas, and functions that hold a lock, with each N."""
    assert run_script(write_script(tmp_path / "program.py", CHECKS), method) == "." * PRINTED
