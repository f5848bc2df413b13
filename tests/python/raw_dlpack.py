"""DLPack's structs by hand: a producer whose deleter counts, and what a capsule of ours holds."""

import ctypes

FLOAT = 2
CPU, CUDA = 1, 2
READ_ONLY, IS_COPIED = 1, 2


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Unversioned(ctypes.Structure):
    name = b"dltensor"
    _fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]


class Versioned(ctypes.Structure):
    name = b"dltensor_versioned"
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_get = ctypes.pythonapi.PyCapsule_GetPointer
_get.restype, _get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.argtypes = [ctypes.py_object, ctypes.c_char_p]


class Producer:
    """[2, 3] float32, 0 to 5, lent by a struct that a test may spoil first. `freed` counts."""

    def __init__(self, kind=Versioned, **changes):
        self.values = (ctypes.c_float * 6)(*range(6))
        self.shape = (ctypes.c_int64 * 2)(2, 3)
        self.strides = (ctypes.c_int64 * 2)(3, 1)
        self.freed = 0
        self.asked = []
        tensor = DLTensor(
            data=ctypes.addressof(self.values), device_type=CPU, ndim=2, code=FLOAT, bits=32,
            lanes=1, shape=self.shape, strides=self.strides,
        )  # fmt: skip
        self.managed = kind(tensor=tensor, deleter=Deleter(self._free))
        if kind is Versioned:
            self.managed.major = 1
        for name, value in changes.items():
            owner = self.managed if hasattr(self.managed, name) else self.managed.tensor
            setattr(owner, name, value)

    def _free(self, _):
        self.freed += 1

    def __dlpack__(self, **wishes):
        self.asked.append(wishes)
        if isinstance(self.managed, Unversioned) and wishes:
            raise TypeError("__dlpack__() takes no keyword arguments")
        return _new(ctypes.addressof(self.managed), self.managed.name, None)

    def __dlpack_device__(self):
        return self.managed.tensor.device_type, self.managed.tensor.device_id


def steal(capsule, kind=Versioned):
    """The struct in a capsule, whose deleter is from now on ours to call."""
    address = _get(capsule, kind.name)
    _rename(capsule, b"used_" + kind.name)
    return kind.from_address(address), address
