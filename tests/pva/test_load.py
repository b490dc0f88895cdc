"""p4p is loaded without what it does not need, and that is there for others who do."""

from __future__ import annotations

import subprocess
import sys

CHILD = """
import sys
from attpc_ioc.pva.load import load_p4p

load_p4p()
assert not {"numpy", "setuptools", "setuptools_dso"} & set(sys.modules)
from p4p import Type, Value
from p4p.nt import NTScalar, NTTable

array = Value(Type([("a", "ad")]), {"a": [1.0, 2.0]}).a
wrapped = NTScalar("ad").wrap([3.0, 4.0])
# What numpy's core looks for later, and numpy itself, are there.
assert (repr(array), list(wrapped.value)) == ("array([1., 2.])", [3.0, 4.0])
assert (array.sum(), array @ array) == (3.0, 5.0)
import numpy

assert type(array) is type(wrapped.value) is numpy.ndarray
numpy.testing.assert_allclose(numpy.linalg.inv(numpy.eye(2)), numpy.eye(2))
assert numpy.ma.array([1], mask=[True]).count() == 0
assert list(numpy.fft.fft([1, 2])) == [3, -1]
assert (numpy.matrix([[1, 2]]) * numpy.matrix([[1], [2]])).item() == 5
assert numpy.median(numpy.random.default_rng(1).integers(5, 6, 9)) == 5
import setuptools

assert setuptools.__version__
"""


def test_p4p_is_loaded_with_the_core_of_numpy_only():
    ran = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
