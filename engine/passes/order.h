// An order of jobs in which few bytes are alive at once. Jobs know bytes and who needs them,
// neither tensors nor ops: what they stand for is schedule.cpp's.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace poolgrad::passes {

/// Bytes that are alive from the first of their users to the last.
struct Block {
  std::size_t bytes = 0;
  std::vector<int> users{};  // jobs, each once
};

struct Job {
  std::vector<int> before{};  // jobs that run earlier
  std::size_t inside = 0;     // bytes of its own while it runs
  /// A block whose bytes become another one's of the same size, which begins with this job, where
  /// nobody needs it any more: they do not lie side by side. -1: none.
  int gives = -1;
};

struct Jobs {
  std::vector<Job> all;
  std::vector<Block> blocks;
};

/// Bytes alive at each place of `order`, which holds every job once, each behind those before it.
[[nodiscard]] std::vector<std::size_t> alive(const Jobs& jobs, std::span<const int> order);

struct Order {
  std::vector<int> jobs;
  std::size_t peak = 0;
  bool best = false;  // proved: no order has a lower peak
  int trials = 0;     // jobs that the search has placed
};

/// `order`, changed where that lowers the peak. Looks for other orders of the jobs around the
/// fullest place: of some, then of more, at last of all, which proves the result the best unless
/// `most_trials` end the search. Deterministic.
[[nodiscard]] Order lower_peak(const Jobs& jobs, std::vector<int> order, int most_trials);

}  // namespace poolgrad::passes
