// gather()'s kernel alone, for who reads batches ahead of a program, into bytes no entry makes.
#pragma once

#include <span>

#include "engine/op.h"
#include "engine/ops.h"

namespace poolgrad {

/// Does what gather() does, with the same bits, on the thread that calls it.
class GatherKernel {
 public:
  /// Of rows of `table` [n, ...] into `to` [batch, ...]. Throws ShapeError and ArgumentError as
  /// gather() does.
  GatherKernel(const Spec& table, const Spec& to, const Gather& how);

  /// The rows of those numbers, at most a batch of them, then zeros. Throws ArgumentError for one
  /// that the table has not.
  void operator()(const void* table, std::span<const std::int32_t> indices, void* to) const;

 private:
  Kernel kernel_;
};

}  // namespace poolgrad
