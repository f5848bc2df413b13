// The bridge itself. Nothing here knows Python, and what is lent out needs nobody's help to be
// freed.
#include "interop/dlpack.h"

#include <algorithm>
#include <array>
#include <limits>

#include <dlpack/dlpack.h>

#include "engine/error.h"

namespace poolgrad::interop {
namespace {

struct Code {
  DType dtype;
  std::uint8_t code, bits;
};
constexpr std::array<Code, 8> kCodes{{{DType::f32, kDLFloat, 32},
                                      {DType::f64, kDLFloat, 64},
                                      {DType::f16, kDLFloat, 16},
                                      {DType::bf16, kDLBfloat, 16},
                                      {DType::i64, kDLInt, 64},
                                      {DType::i32, kDLInt, 32},
                                      {DType::u8, kDLUInt, 8},
                                      {DType::boolean, kDLBool, 8}}};

// ---- lending out

/// The struct, and what it points to: shape and strides are those of the array itself.
template <typename Managed>
struct Loan {
  Managed managed{};
  ArrayView array;

  static void end(Managed* self) { delete static_cast<Loan*>(self->manager_ctx); }
};

template <typename Managed>
Managed* lend(const ArrayView& array) {
  if (array.owner == nullptr) {
    throw ExportError(text("to_dlpack: nobody owns the bytes of this array ", array.shape,
                           "; give the view an owner that keeps them"));
  }
  auto loan = std::make_unique<Loan<Managed>>();
  loan->array = array;
  const auto dtype = std::ranges::find(kCodes, array.dtype, &Code::dtype);
  const DevicePair device = dlpack_device(array.place);
  loan->managed.manager_ctx = loan.get();
  loan->managed.deleter = Loan<Managed>::end;
  loan->managed.dl_tensor = {
      .data = array.shape.count() == 0 ? nullptr : array.data,
      .device = {static_cast<DLDeviceType>(device.type), device.index},
      .ndim = array.shape.rank(),
      .dtype = {dtype->code, dtype->bits, 1},
      .shape = const_cast<std::int64_t*>(loan->array.shape.extents().data()),
      .strides = const_cast<std::int64_t*>(loan->array.strides.extents().data()),
      .byte_offset = 0,
  };
  return &loan.release()->managed;
}

// ---- borrowing

[[noreturn]] void refuse(const std::string& reason) { throw ExportError("from_dlpack: " + reason); }

std::string device_name(DLDevice device) {
  if (device.device_type == kDLCUDA || device.device_type == kDLCUDAManaged)
    return text("cuda:", device.device_id);
  return text("a device of type ", static_cast<int>(device.device_type));
}

DType known_dtype(DLDataType dtype) {
  for (const Code& code : kCodes) {
    if (code.code == dtype.code && code.bits == dtype.bits && dtype.lanes == 1) return code.dtype;
  }
  std::string known;
  for (const Code& code : kCodes) known += (known.empty() ? "" : ", ") + to_string(code.dtype);
  refuse(text("elements of type code ", int{dtype.code}, " with ", int{dtype.bits}, " bits and ",
              dtype.lanes, " lanes are unknown here; convert to one of ", known));
}

/// What every reader relies on: no product of extents overflows, and no element lies outside of the
/// address space.
void check_range(const DLTensor& tensor, const Shape& shape, const Shape& strides,
                 std::size_t element_bytes) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  std::int64_t count = 1, lowest = 0, highest = 0;
  bool fits = true;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] < 0) refuse(text("axis ", axis, " has ", shape[axis], " elements"));
    fits = fits && !__builtin_mul_overflow(count, std::max<std::int64_t>(shape[axis], 1), &count);
    if (shape[axis] < 2) continue;
    std::int64_t span = 0;
    fits = fits && !__builtin_mul_overflow(shape[axis] - 1, strides[axis], &span);
    std::int64_t& end = span < 0 ? lowest : highest;
    fits = fits && !__builtin_add_overflow(end, span, &end);
  }
  const std::int64_t most_elements = kMost / static_cast<std::int64_t>(element_bytes);
  fits = fits && count <= most_elements && highest < most_elements && lowest > -most_elements;
  if (!fits) refuse(text("shape ", shape, " with strides ", strides, " leaves the address space"));

  if (shape.count() == 0) return;
  if (tensor.data == nullptr) refuse(text("shape ", shape, " has no data pointer"));
  if (tensor.byte_offset > static_cast<std::uint64_t>(kMost)) {
    refuse(text("byte_offset ", tensor.byte_offset, " leaves the address space"));
  }
}

/// Where the array lies, if it may lie there.
memory::Place place_of(DLDevice device, memory::Stream stream) {
  if (device.device_type == kDLCPU) return {};
  if (device.device_type == kDLCUDAHost) return {memory::Space::pinned, 0};
  const bool on_gpu = device.device_type == kDLCUDA || device.device_type == kDLCUDAManaged;
  if (stream.is_caller() || !on_gpu)
    refuse(text("the array lies on ", device_name(device), "; move it to the CPU first"));
  if (device.device_id != stream.ops->device)
    refuse(text("the array lies on ", device_name(device),
                " but is wanted on cuda:", stream.ops->device, "; move it there first"));
  return {memory::Space::cuda, device.device_id};
}

ArrayView borrow(const DLTensor& tensor, std::shared_ptr<const void> owner, bool read_only,
                 memory::Stream stream) {
  const memory::Place place = place_of(tensor.device, stream);
  const DType dtype = known_dtype(tensor.dtype);
  if (tensor.ndim < 0 || tensor.ndim > Shape::kMaxRank) {
    refuse(text(tensor.ndim, " axes, where 0 to ", Shape::kMaxRank, " are possible; reshape it"));
  }
  if (tensor.ndim > 0 && tensor.shape == nullptr) refuse("there is no shape");

  const auto rank = static_cast<std::size_t>(tensor.ndim);
  const Shape shape(std::span<const std::int64_t>(tensor.shape, rank));
  Shape strides = shape;
  std::uint64_t dense = 1;  // unsigned, as shapes are checked only afterwards
  for (int axis = tensor.ndim - 1; axis >= 0; --axis) {
    strides[axis] =
        tensor.strides != nullptr ? tensor.strides[axis] : static_cast<std::int64_t>(dense);
    dense *= static_cast<std::uint64_t>(shape[axis]);
  }
  check_range(tensor, shape, strides, size_of(dtype));
  void* data = shape.count() == 0 ? nullptr : static_cast<char*>(tensor.data) + tensor.byte_offset;
  if (place.space != memory::Space::cuda) stream = {};
  return {data, shape, strides, dtype, place, std::move(owner), read_only, stream};
}

/// From here on the deleter is called, whatever happens.
template <typename Managed>
std::shared_ptr<const void> own(Managed* managed) {
  if (managed == nullptr) refuse("there is no tensor");
  return std::shared_ptr<Managed>(managed, [](Managed* lent) {
    if (lent->deleter != nullptr) lent->deleter(lent);
  });
}

}  // namespace

DLManagedTensorVersioned* to_dlpack(const ArrayView& array, bool is_copy) {
  auto* managed = lend<DLManagedTensorVersioned>(array);
  managed->version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
  managed->flags = (array.read_only ? DLPACK_FLAG_BITMASK_READ_ONLY : 0) |
                   (is_copy ? DLPACK_FLAG_BITMASK_IS_COPIED : 0);
  return managed;
}

DLManagedTensor* to_unversioned_dlpack(const ArrayView& array) {
  if (array.read_only) {
    throw ExportError(
        "to_dlpack: the array is read-only, which an unversioned capsule cannot say; ask with "
        "max_version=(1, 0), or for a copy");
  }
  return lend<DLManagedTensor>(array);
}

ArrayView from_dlpack(DLManagedTensorVersioned* managed, memory::Stream stream) {
  auto owner = own(managed);
  if (managed->version.major != DLPACK_MAJOR_VERSION) {  // nothing but the deleter may be touched
    refuse(text("version ", managed->version.major, ".", managed->version.minor,
                " of DLPack is unknown here; ask for at most ", DLPACK_MAJOR_VERSION, ".",
                DLPACK_MINOR_VERSION));
  }
  const bool read_only = (managed->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
  return borrow(managed->dl_tensor, std::move(owner), read_only, stream);
}

ArrayView from_dlpack(DLManagedTensor* managed, memory::Stream stream) {
  auto owner = own(managed);
  return borrow(managed->dl_tensor, std::move(owner), false, stream);
}

DevicePair dlpack_device(memory::Place place) {
  if (place.space == memory::Space::cuda) return {kDLCUDA, place.index};
  return {kDLCPU, 0};
}

Version dlpack_version() { return {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION}; }

}  // namespace poolgrad::interop
