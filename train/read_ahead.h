// ReadAhead: gathers the next batch on a thread of its own while a step runs. Which batch is next
// is not decided here.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "engine/ops/gather.h"
#include "engine/program.h"
#include "memory/host_stream.h"
#include "train/task.h"

namespace poolgrad::train {

/// Fills the two slots of a task made with TaskSpec::read_ahead in turn. begin() and take()
/// alternate; a slot is filled from begin() on, and read from take() until the next take().
class ReadAhead {
 public:
  /// `program` and `data` must outlive this. Throws ShapeError for data that does not fit.
  ReadAhead(const Program& program, const Task& task, const Dataset& data);

  /// Has those rows of the data gathered, at most a batch of them, and does not wait. They must
  /// stay where they are until take(). Allocates nothing after the first time.
  void begin(std::span<const std::int32_t> rows);
  /// Whether begin() was called since the last take().
  [[nodiscard]] bool pending() const { return pending_; }
  /// Waits for the batch and answers what to feed. Throws what gathering threw.
  [[nodiscard]] const std::array<Feed, 2>& take();

 private:
  struct Slot {
    std::array<Feed, 2> feeds;  // samples, labels; fed to the first slot's tensors, always
  };

  void gather(std::span<const std::int32_t> rows, Slot& slot) const;

  const Dataset& data_;
  GatherKernel samples_, labels_;
  std::array<Slot, 2> slots_;
  int filling_ = 0;
  bool pending_ = false;
  memory::HostStream stream_;  // last: its work ends before what it works on does
};

}  // namespace poolgrad::train
