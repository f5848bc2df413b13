// The bridge, seen from both sides: as a consumer of what we lend, and as a producer of what we
// take.
#include "interop/dlpack.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <numeric>
#include <thread>

#include <dlpack/dlpack.h>
#include <doctest/doctest.h>

#include "engine/error.h"
#include "memory/arena.h"

using namespace poolgrad;
using namespace poolgrad::interop;

namespace {

/// An array [2, 3] of 0 to 5 in an arena of its own.
ArrayView six_floats() {
  const auto arena =
      std::make_shared<memory::Arena>(std::make_shared<memory::HostResource>(), 6 * sizeof(float));
  auto* data = reinterpret_cast<float*>(arena->at(0));
  std::iota(data, data + 6, 0.0F);
  return {data, {2, 3}, {3, 1}, DType::f32, {}, arena};
}

/// Somebody else's tensor, which counts how often its deleter is called.
template <typename Managed>
struct Foreign {
  std::array<float, 24> values{};
  std::vector<std::int64_t> shape{2, 3}, strides{3, 1};
  std::atomic<int> freed = 0;
  Managed managed{};

  Foreign() {
    std::iota(values.begin(), values.end(), 0.0F);
    managed.dl_tensor = {values.data(), {kDLCPU, 0},    2, {kDLFloat, 32, 1},
                         shape.data(),  strides.data(), 0};
    managed.manager_ctx = this;
    managed.deleter = [](Managed* self) { ++static_cast<Foreign*>(self->manager_ctx)->freed; };
    if constexpr (requires { managed.version; }) managed.version = {1, 0};
  }
  DLTensor& tensor() { return managed.dl_tensor; }
};

template <typename Change>
void refused(const char* text, Change change) {
  CAPTURE(text);
  Foreign<DLManagedTensorVersioned> versioned;
  change(versioned);
  CHECK_THROWS_WITH_AS((void)from_dlpack(&versioned.managed), doctest::Contains(text), ExportError);
  CHECK(versioned.freed == 1);

  Foreign<DLManagedTensor> unversioned;
  change(unversioned);
  CHECK_THROWS_WITH_AS((void)from_dlpack(&unversioned.managed), doctest::Contains(text),
                       ExportError);
  CHECK(unversioned.freed == 1);
}

}  // namespace

TEST_CASE("dlpack: what is lent says address, shape, strides, dtype, device and version") {
  const ArrayView array = six_floats();
  DLManagedTensorVersioned* lent = to_dlpack(array);
  CHECK(lent->version.major == DLPACK_MAJOR_VERSION);
  CHECK(lent->version.minor == DLPACK_MINOR_VERSION);
  CHECK(lent->flags == 0);
  CHECK(lent->dl_tensor.data == array.data);
  CHECK(lent->dl_tensor.byte_offset == 0);
  CHECK(lent->dl_tensor.device.device_type == kDLCPU);
  CHECK(lent->dl_tensor.ndim == 2);
  CHECK(lent->dl_tensor.shape[0] == 2);
  CHECK(lent->dl_tensor.shape[1] == 3);
  REQUIRE(lent->dl_tensor.strides != nullptr);
  CHECK(lent->dl_tensor.strides[0] == 3);
  CHECK(lent->dl_tensor.strides[1] == 1);
  CHECK(int{lent->dl_tensor.dtype.code} == kDLFloat);
  CHECK(int{lent->dl_tensor.dtype.bits} == 32);
  CHECK(lent->dl_tensor.dtype.lanes == 1);
  lent->deleter(lent);
}

TEST_CASE("dlpack: flags tell read-only bytes and copies apart") {
  ArrayView array = six_floats();
  DLManagedTensorVersioned* copy = to_dlpack(array, /*is_copy=*/true);
  CHECK(copy->flags == DLPACK_FLAG_BITMASK_IS_COPIED);
  copy->deleter(copy);

  array.read_only = true;
  DLManagedTensorVersioned* read_only = to_dlpack(array);
  CHECK(read_only->flags == DLPACK_FLAG_BITMASK_READ_ONLY);
  read_only->deleter(read_only);
  CHECK_THROWS_WITH_AS(
      (void)to_unversioned_dlpack(array),
      "to_dlpack: the array is read-only, which an unversioned capsule cannot say; "
      "ask with max_version=(1, 0), or for a copy",
      ExportError);
}

TEST_CASE("dlpack: a loan keeps the arena until its deleter is called, on any thread") {
  ArrayView array = six_floats();
  const std::weak_ptr<const void> arena = array.owner;
  DLManagedTensorVersioned* versioned = to_dlpack(array);
  DLManagedTensor* unversioned = to_unversioned_dlpack(array);
  array = {};
  CHECK(static_cast<float*>(versioned->dl_tensor.data)[5] == 5.0F);
  std::thread([versioned] { versioned->deleter(versioned); }).join();
  CHECK(!arena.expired());
  std::thread([unversioned] { unversioned->deleter(unversioned); }).join();
  CHECK(arena.expired());
}

TEST_CASE("dlpack: bytes without an owner are not lent") {
  std::array<float, 2> values{};
  const ArrayView array = ArrayView::of<float>(values, {2}, DType::f32);
  CHECK_THROWS_WITH_AS((void)to_dlpack(array),
                       "to_dlpack: nobody owns the bytes of this array [2]; give the view an owner "
                       "that keeps them",
                       ExportError);
}

TEST_CASE("dlpack: an array without elements has no data pointer, in both directions") {
  ArrayView array = six_floats();
  array.shape = {0, 3};
  DLManagedTensorVersioned* lent = to_dlpack(array);
  CHECK(lent->dl_tensor.data == nullptr);
  CHECK(lent->dl_tensor.strides != nullptr);
  const ArrayView back = from_dlpack(lent);
  CHECK(back.data == nullptr);
  CHECK(back.shape == Shape{0, 3});
}

TEST_CASE("dlpack: every dtype comes back as itself") {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i64, DType::i32,
                            DType::u8, DType::boolean}) {
    CAPTURE(to_string(dtype));
    ArrayView array = six_floats();
    array.shape = {3};
    array.strides = {1};
    array.dtype = dtype;
    const ArrayView back = from_dlpack(to_dlpack(array));
    CHECK(back.dtype == dtype);
    CHECK(back.data == array.data);
    CHECK(back.shape == array.shape);
    CHECK(from_dlpack(to_unversioned_dlpack(array)).dtype == dtype);
  }
}

TEST_CASE("dlpack: scalars, six axes and strides of any sign pass") {
  ArrayView array = six_floats();
  array.shape = {};
  array.strides = {};
  CHECK(from_dlpack(to_dlpack(array)).shape == Shape{});
  array.shape = {1, 1, 1, 2, 1, 3};
  array.strides = {0, 7, -7, -3, 9, 0};
  const ArrayView back = from_dlpack(to_dlpack(array));
  CHECK(back.shape == array.shape);
  CHECK(back.strides == array.strides);
}

TEST_CASE("dlpack: what is taken is freed once, when the last view of it goes") {
  Foreign<DLManagedTensorVersioned> foreign;
  ArrayView first = from_dlpack(&foreign.managed);
  CHECK(first.data == foreign.values.data());
  ArrayView second = first;
  first = {};
  CHECK(foreign.freed == 0);
  std::thread([&second] { second = {}; }).join();
  CHECK(foreign.freed == 1);
}

TEST_CASE("dlpack: an offset, missing strides and a missing deleter are understood") {
  Foreign<DLManagedTensor> foreign;
  foreign.tensor().byte_offset = 8;
  foreign.tensor().strides = nullptr;
  foreign.managed.deleter = nullptr;
  const ArrayView view = from_dlpack(&foreign.managed);
  CHECK(view.data == foreign.values.data() + 2);
  CHECK(view.strides == Shape{3, 1});
  CHECK(foreign.tensor().strides == nullptr);  // a producer's struct is not written to
}

TEST_CASE("dlpack: a read-only tensor stays read-only") {
  Foreign<DLManagedTensorVersioned> foreign;
  foreign.managed.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
  CHECK(from_dlpack(&foreign.managed).read_only);
}

TEST_CASE("dlpack: refusals say why, and free what they refuse once") {
  refused("the array lies on cuda:1; move it to the CPU first", [](auto& f) {
    f.tensor().device = {kDLCUDA, 1};
  });
  refused("the array lies on a device of type 8",
          [](auto& f) { f.tensor().device.device_type = kDLMetal; });
  refused(
      "elements of type code 5 with 64 bits and 1 lanes are unknown here; convert to one of "
      "float32, float64",
      [](auto& f) {
        f.tensor().dtype = {kDLComplex, 64, 1};
      });
  refused("with 32 bits and 4 lanes", [](auto& f) { f.tensor().dtype.lanes = 4; });
  refused("with 8 bits", [](auto& f) { f.tensor().dtype = {kDLFloat8_e4m3fn, 8, 1}; });
  refused("7 axes, where 0 to 6 are possible", [](auto& f) { f.tensor().ndim = 7; });
  refused("-1 axes", [](auto& f) { f.tensor().ndim = -1; });
  refused("there is no shape", [](auto& f) { f.tensor().shape = nullptr; });
  refused("axis 1 has -3 elements", [](auto& f) { f.shape[1] = -3; });
  refused("shape [2, 3] has no data pointer", [](auto& f) { f.tensor().data = nullptr; });
  refused("byte_offset 18446744073709551615 leaves",
          [](auto& f) { f.tensor().byte_offset = std::numeric_limits<std::uint64_t>::max(); });
}

TEST_CASE("dlpack: extents and strides that leave the address space are refused") {
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  const auto strides = [](auto a, auto b) {
    return [a, b](auto& f) {
      f.strides.assign({a, b});
      f.tensor().strides = f.strides.data();
    };
  };
  refused("leaves the address space", [](auto& f) { f.shape.assign({kHuge, kHuge}); });
  refused("leaves the address space", [](auto& f) {  // though it has no elements
    f.shape.assign({kHuge, kHuge, 0});
    f.tensor().shape = f.shape.data();
    f.tensor().strides = nullptr;
    f.tensor().ndim = 3;
  });
  refused("leaves the address space", [](auto& f) { f.shape[0] = kHuge; });
  refused("leaves the address space", strides(kHuge, std::int64_t{1}));
  refused("leaves the address space", strides(-kHuge, std::int64_t{1}));
  refused("leaves the address space",
          strides(std::numeric_limits<std::int64_t>::min(), std::int64_t{1}));
}

TEST_CASE("dlpack: of another major version nothing but the deleter is touched") {
  Foreign<DLManagedTensorVersioned> foreign;
  foreign.managed.version = {2, 0};
  foreign.tensor().shape = reinterpret_cast<std::int64_t*>(8);  // would crash
  CHECK_THROWS_WITH_AS(
      (void)from_dlpack(&foreign.managed),
      doctest::Contains("version 2.0 of DLPack is unknown here; ask for at most 1."), ExportError);
  CHECK(foreign.freed == 1);

  Foreign<DLManagedTensorVersioned> later;
  later.managed.version = {1, 99};
  CHECK(from_dlpack(&later.managed).shape == Shape{2, 3});
}

TEST_CASE("dlpack: no tensor at all is refused") {
  CHECK_THROWS_WITH_AS((void)from_dlpack(static_cast<DLManagedTensor*>(nullptr)),
                       "from_dlpack: there is no tensor", ExportError);
}
