// Two slots, one stream, one batch on its way.
#include "train/read_ahead.h"

#include <utility>

namespace poolgrad::train {
namespace {

/// Of a data set's rows, seen in the shape that the slot wants.
GatherKernel kernel(const ArrayView& column, Tensor slot, const Gather& how) {
  Shape table = slot.shape();
  table[0] = column.shape[0];
  if (table.count() != column.shape.count())
    throw ShapeError(text("read_ahead: the data is ", column.shape, " but the task takes ", table,
                          "; make it with .tables = tables_of(data)"));
  return {{table, column.dtype}, slot.spec(), how};
}

std::array<Feed, 2> feeds(const Program& program, const Task& task, Tensor samples, Tensor labels) {
  return {Feed{task.samples, program.view(samples)}, Feed{task.labels, program.view(labels)}};
}

}  // namespace

ReadAhead::ReadAhead(const Program& program, const Task& task, const Dataset& data)
    : data_(data),
      samples_(kernel(data.samples, task.samples, as_pixels(data.samples.dtype))),
      labels_(kernel(data.labels, task.labels, {DType::i64})),
      slots_{Slot{feeds(program, task, task.samples, task.labels)},
             Slot{feeds(program, task, task.next_samples, task.next_labels)}} {}

void ReadAhead::begin(std::span<const std::int32_t> rows) {
  stream_.enqueue([this, rows, filling = filling_] {
    gather(rows, slots_[static_cast<std::size_t>(filling)]);
  });
  pending_ = true;
}

const std::array<Feed, 2>& ReadAhead::take() {
  const Slot& slot = slots_[static_cast<std::size_t>(filling_)];
  pending_ = false;
  stream_.synchronize();
  filling_ = 1 - filling_;
  return slot.feeds;
}

void ReadAhead::gather(std::span<const std::int32_t> rows, Slot& slot) const {
  auto& [samples, labels] = slot.feeds;
  samples_(data_.samples.data, rows, samples.values.data);
  labels_(data_.labels.data, rows, labels.values.data);
  samples.values.shape[0] = labels.values.shape[0] = static_cast<std::int64_t>(rows.size());
}

}  // namespace poolgrad::train
