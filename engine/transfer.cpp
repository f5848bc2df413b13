// Copies wait for the array's own stream, and the caller for the copy.
#include "engine/transfer.h"

#include <memory>
#include <utility>
#include <vector>

#include "engine/error.h"
#include "memory/arena.h"

namespace poolgrad {
namespace {

bool on_device(const ArrayView& array) { return array.place.space == memory::Space::cuda; }

memory::Stream stream_of(const ArrayView& array) {
  if (!array.stream.is_caller()) return array.stream;
  throw ArgumentError(text("an array ", array.shape, " on ", to_string(array.place),
                           " comes without a stream to copy it by; set ArrayView::stream"));
}

/// Copies in the stream's turn, and waits for that.
void copy_now(memory::Stream stream, void* to, const void* from, std::size_t bytes) {
  stream.copy(to, from, bytes);
  memory::Event(stream).wait();
}

ArrayView dense_like(const ArrayView& array, std::shared_ptr<memory::Resource> resource) {
  try {
    const auto arena = std::make_shared<memory::Arena>(std::move(resource), array.bytes());
    return {arena->at(0), array.shape,    Spec{array.shape}.strides(),
            array.dtype,  arena->place(), arena};
  } catch (const std::bad_alloc& error) {
    throw MemoryError(text("no ", array.bytes(), " bytes for an array ", array.shape, " of ",
                           array.dtype, ": ", error.what()));
  }
}

/// The elements from the first to the last in memory, also those between that are not the array's.
struct Span {
  std::int64_t first = 0, last = 0;  // in elements, from `data` on
};
Span span_of(const ArrayView& array) {
  Span span;
  for (int axis = 0; axis < array.shape.rank(); ++axis) {
    const std::int64_t reach = (array.shape[axis] - 1) * array.strides[axis];
    (reach < 0 ? span.first : span.last) += reach;
  }
  return span;
}

ArrayView dense_on_host(const ArrayView& array) {
  ArrayView result = dense_like(array, std::make_shared<memory::HostResource>());
  if (array.shape.count() == 0) return result;
  if (array.row_major()) {
    copy_now(stream_of(array), result.data, array.data, array.bytes());
    return result;
  }
  const auto element = static_cast<std::int64_t>(size_of(array.dtype));
  const Span span = span_of(array);
  std::vector<std::byte> bytes(static_cast<std::size_t>((span.last - span.first + 1) * element));
  copy_now(stream_of(array), bytes.data(),
           static_cast<const std::byte*>(array.data) + span.first * element, bytes.size());
  ArrayView there = array;
  there.data = bytes.data() - span.first * element;
  copy(there, result);
  return result;
}

}  // namespace

ArrayView on_host(const ArrayView& array) {
  return on_device(array) ? dense_on_host(array) : array;
}

ArrayView copied_to(memory::Stream stream, const ArrayView& array) {
  if (stream.is_caller() || stream.ops->memory == nullptr)
    throw ArgumentError("copied_to: this stream is no device's");
  memory::Resource* const resource = stream.ops->memory(stream.ops->device);  // lives forever
  ArrayView result = dense_like(array, {std::shared_ptr<void>{}, resource});
  result.stream = stream;
  copy_across(array, result);
  return result;
}

ArrayView duplicate(const ArrayView& array) {
  if (on_device(array)) return copied_to(stream_of(array), array);
  ArrayView result = dense_like(array, std::make_shared<memory::HostResource>());
  copy(array, result);
  return result;
}

void copy_across(const ArrayView& from, const ArrayView& to) {
  if (from.shape != to.shape)
    throw ShapeError(text("copy: ", from.shape, " is not the target's shape ", to.shape));
  if (!on_device(to)) return copy(on_host(from), to);
  if (!to.row_major())
    throw ArgumentError(
        text("copy: the target ", to.shape, " on ", to_string(to.place), " is not dense"));
  const memory::Stream stream = stream_of(to);
  if (from.place == to.place && from.dtype == to.dtype && from.row_major()) {
    if (from.stream != stream) stream.wait(memory::Event(from.stream));
    return copy_now(stream, to.data, from.data, to.bytes());
  }
  const ArrayView values = on_host(from);
  if (values.dtype == to.dtype && values.row_major())
    return copy_now(stream, to.data, values.data, to.bytes());
  std::vector<std::byte> dense(to.bytes());
  copy(values, {dense.data(), to.shape, Spec{to.shape}.strides(), to.dtype, {}, {}});
  copy_now(stream, to.data, dense.data(), dense.size());
}

}  // namespace poolgrad
