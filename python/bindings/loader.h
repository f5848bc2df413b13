// DataLoader: a data set in batches, in the order of the command's. What a step does with them is
// step.cpp.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "engine/ops/gather.h"
#include "memory/host_stream.h"
#include "python/bindings/bindings.h"
#include "train/batches.h"
#include "train/checkpoint.h"

namespace poolgrad::python {

/// Gives batches on bytes of its own, which are used again once nobody holds them. Reading ahead, a
/// thread gathers the next batch meanwhile.
class DataLoader {
 public:
  struct Batch {
    ArrayView x, y;
  };

  /// Throws ShapeError and ArgumentError for arrays that are no samples and labels, and for a batch
  /// that the data has not.
  DataLoader(nb::handle x, nb::handle y, std::int64_t batch, bool shuffle, std::uint64_t seed,
             bool read_ahead);

  /// Begins an epoch, or goes on with the one that go_on_from() named; answers its number.
  int begin();
  /// Nothing at the end of the epoch. Throws what gathering threw, and std::runtime_error when
  /// another epoch has begun.
  std::optional<Batch> next(int begun);

  /// Behind the last batch that was given.
  [[nodiscard]] const train::Position& at() const { return at_; }
  /// Throws ArgumentError, which begins with `name`.
  void check(const train::Position& at, std::string_view name) const;
  void go_on_from(const train::Position& at);
  [[nodiscard]] std::int64_t per_epoch() const { return batches_.per_epoch(); }

 private:
  bool start();
  Batch& free_slot();
  void gather(std::span<const std::int32_t> rows, const Batch& slot) const;

  Batch data_;
  bool shuffle_;
  train::Batches batches_;
  train::Position at_;
  bool within_epoch_ = false;  // told to go on there
  int begun_ = 0;
  std::array<Batch, 3> slots_;  // one is held by the loop, one given, one filled
  std::size_t turn_ = 0;
  Batch* filling_ = nullptr;
  GatherKernel gather_x_, gather_y_;
  std::optional<memory::HostStream> stream_;  // last: its work ends before what it works on does
};

void bind_loader(nb::module_& module);

}  // namespace poolgrad::python
