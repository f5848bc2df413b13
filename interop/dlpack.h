// ArrayView <-> DLPack's managed tensors, without copying. C++ only: capsules are the bindings'
// business.
#pragma once

#include "engine/array.h"

struct DLManagedTensor;           // dlpack/dlpack.h: the unversioned struct of before 1.0
struct DLManagedTensorVersioned;  // the struct of 1.0 and later

namespace poolgrad::interop {

/// Lends out the array's bytes. Whoever receives the struct calls its deleter once, on any thread,
/// at any time, also when no interpreter runs (any more); until then the owner's bytes stay where
/// they are.
///
/// Says version, read-only and, if told so, that the bytes are a copy made for this request. The
/// address is exact (byte_offset 0), strides are always given, data is NULL where there are no
/// elements. Throws ExportError for an array without an owner, since nothing would keep its bytes.
[[nodiscard]] DLManagedTensorVersioned* to_dlpack(const ArrayView& array, bool is_copy = false);

/// As above for consumers that know no versions. Throws ExportError for read-only arrays too: this
/// struct has no way to say so.
[[nodiscard]] DLManagedTensor* to_unversioned_dlpack(const ArrayView& array);

/// Takes over what a producer lends: the view's owner calls the deleter, once, when the last copy
/// of the view goes. Strides may be of any sign, or 0; the address may be aligned to less than an
/// element.
///
/// `stream` is the one that the producer was given, and made wait for its work: arrays of that
/// stream's device are welcome then, and come with it. Without one, only the CPU's are, and pinned
/// memory.
///
/// Throws ExportError, after calling the deleter, for another major version, another device, dtypes
/// that poolgrad does not know, more than six axes, extents or strides that leave the address
/// space, and missing pointers.
[[nodiscard]] ArrayView from_dlpack(DLManagedTensorVersioned* managed, memory::Stream stream = {});
[[nodiscard]] ArrayView from_dlpack(DLManagedTensor* managed, memory::Stream stream = {});

/// DLPack's pair for a place, as in __dlpack_device__(): pinned memory is the CPU's.
struct DevicePair {
  int type = 0, index = 0;
  bool operator==(const DevicePair&) const = default;
};
[[nodiscard]] DevicePair dlpack_device(memory::Place place);

/// The newest version spoken here.
struct Version {
  unsigned major = 0, minor = 0;
};
[[nodiscard]] Version dlpack_version();

}  // namespace poolgrad::interop
