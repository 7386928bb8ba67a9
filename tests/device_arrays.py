"""A GPU's arrays without a GPU: whoever takes one for a host array is told so.

``DeviceArray`` stands for ``cupy.ndarray``. As there, ``np.asarray(array)`` is an error, so is an
operation on a device array and a host array; ``get`` copies to the host and ``asarray`` to the
device. The numbers lie in a numpy array.
"""

import sys
import types
from collections.abc import Callable

import numpy as np
import pytest
import thinc.backends
import thinc.compat
import thinc.util
import torch
from thinc.api import CupyOps, NumpyOps, Ops, get_current_ops, set_current_ops

IMPLICIT = "Implicit conversion to a NumPy array is not allowed. Use `.get()`."


def _host(value):
    """Give the numbers of a device array, and of a tuple's; a host array is refused."""
    if isinstance(value, DeviceArray):
        return value.numbers
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(f"Unsupported type {np.ndarray}: a host array among device arrays")
    if isinstance(value, list | tuple):
        return type(value)(map(_host, value))
    return value


def _device(value):
    if isinstance(value, np.ndarray | np.generic):
        return DeviceArray(np.asarray(value))
    if isinstance(value, list | tuple):
        return type(value)(map(_device, value))
    return value


def _on_device(function):
    def call(*args, out=None, **kwargs):
        kwargs |= {} if out is None else {"out": out}
        found = function(*map(_host, args), **{name: _host(one) for name, one in kwargs.items()})
        return out if out is not None else _device(found)

    if isinstance(function, np.ufunc):
        call.at = _on_device(function.at)
    return call


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """Numbers on a device, as ``cupy.ndarray``."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers

    def get(self, stream: object = None) -> np.ndarray:
        return self.numbers.copy()

    def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
        raise TypeError(IMPLICIT)

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **kwargs):
        if out:
            kwargs["out"] = _host(out)
        found = getattr(ufunc, method)(*map(_host, inputs), **kwargs)
        return out[0] if out else _device(found)

    def __array_function__(self, function, kinds, args, kwargs):
        return _on_device(function)(*args, **kwargs)

    def __getattr__(self, name):
        if name.startswith("__"):  # not numpy's own way to the numbers, `__array_interface__`
            raise AttributeError(name)
        found = getattr(self.numbers, name)
        return _on_device(found) if callable(found) else _device(found)

    def __getitem__(self, where):
        return _device(np.asarray(self.numbers[_index(where)]))

    def __setitem__(self, where, value):
        self.numbers[_index(where)] = _host(value)

    def __len__(self):
        return len(self.numbers)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def tolist(self):
        return self.numbers.tolist()

    def item(self, *place):
        return self.numbers.item(*place)

    def __float__(self):
        return float(self.numbers)

    def __int__(self):
        return int(self.numbers)

    def __index__(self):
        return self.numbers.__index__()

    def __bool__(self):
        return bool(self.numbers)

    def __dlpack__(self, **kwargs):
        return self.numbers.__dlpack__()

    def __dlpack_device__(self):
        return self.numbers.__dlpack_device__()


def _index(where):
    """Host arrays may index, as in cupy."""
    if isinstance(where, tuple):
        return tuple(map(_index, where))
    return where.numbers if isinstance(where, DeviceArray) else where


class _Xp(types.ModuleType):
    """numpy's functions on device arrays, as the module cupy has them."""

    ndarray = DeviceArray

    def __init__(self, of: types.ModuleType = np) -> None:
        super().__init__("cupy")
        self.of = of

    def __getattr__(self, name):
        found = getattr(self.of, name)
        if isinstance(found, types.ModuleType):
            return _Xp(found)
        return _on_device(found) if callable(found) and not isinstance(found, type) else found

    def asarray(self, data, dtype=None, **kwargs):
        return DeviceArray(np.asarray(getattr(data, "numbers", data), dtype=dtype))

    def array(self, data, dtype=None, copy=True, **kwargs):
        return DeviceArray(np.array(getattr(data, "numbers", data), dtype=dtype))

    def save(self, file, data):
        np.save(file, getattr(data, "numbers", data))

    def split(self, data, places, axis=0):  # the places are the host's, in cupy too
        return _device(np.split(_host(data), places, axis))

    def ascontiguousarray(self, data, dtype=None):
        return DeviceArray(np.ascontiguousarray(getattr(data, "numbers", data), dtype=dtype))


class DeviceOps(CupyOps):
    """Thinc's operations on device arrays; its CUDA kernels give way to the same in ``xp``."""

    xp = _Xp()

    def asarray(self, data, dtype=None):
        return self.xp.asarray(data, dtype=dtype)

    def hash(self, ids, seed):  # `Ops` makes its keys signed, which changes the rows they choose
        return DeviceArray(NumpyOps().hash(_host(ids), seed))

    def scatter_add(self, table, indices, values):
        np.add.at(_host(table), _index(indices), _host(values))


_OWN = {"__init__", "to_numpy", "gemm", *vars(DeviceOps)}
for _name, _kernel in vars(CupyOps).items():
    if isinstance(_kernel, types.FunctionType) and hasattr(Ops, _name) and _name not in _OWN:
        setattr(DeviceOps, _name, getattr(Ops, _name))


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let spaCy, Thinc and trfnb take these arrays for cupy's; torch stays on the CPU.

    A module that is first imported during a test keeps the stand-in, which is harmless on a CPU.

    Returns what chooses between the two, as `trfnb.use_device` does: by ``"cpu"`` or ``"cuda"``.
    """
    cpu = torch.device("cpu")

    def torch2xp(tensor, *, ops=None):
        numbers = tensor.detach().numpy()
        on_device = isinstance(ops or get_current_ops(), DeviceOps)
        return DeviceArray(numbers) if on_device else numbers

    ours = {"torch2xp": torch2xp, "get_torch_default_device": lambda: cpu}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("thinc", "spacy", "trfnb"):
            for function in ours.keys() & vars(module).keys():
                monkeypatch.setattr(module, function, ours[function])
    for module in (thinc.backends, thinc.compat, thinc.util):
        monkeypatch.setattr(module, "has_cupy", True)
        monkeypatch.setattr(module, "cupy", DeviceOps.xp)
    monkeypatch.setattr(thinc.backends, "CupyOps", DeviceOps)
    return lambda device: set_current_ops(DeviceOps() if device == "cuda" else NumpyOps())
