// Checks requests and measures them in units of the plan's alignment. Placing is not here.
#include "memory/plan_items.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

namespace poolgrad::memory {
namespace {

constexpr std::size_t kMostFixed = std::numeric_limits<std::size_t>::max() / 2;

/// Of all bytes together: what is rounded up still fits, and the largest number of all, in which
/// the planner sees that nothing is placed yet, is none of its tops.
std::size_t most_bytes(std::size_t alignment) {
  return std::numeric_limits<std::size_t>::max() - std::max<std::size_t>(alignment - 1, 1);
}

std::string name(std::size_t index) { return "plan: request " + std::to_string(index); }

void check_times(const Request& r, std::size_t index) {
  if (r.end < r.first) {
    throw std::invalid_argument(name(index) + " ends at step " + std::to_string(r.end) +
                                " before it begins at step " + std::to_string(r.first) +
                                "; steps are half-open [first, end)");
  }
  if (r.end_phase < r.first_phase) {
    throw std::invalid_argument(name(index) + " ends at phase " + std::to_string(r.end_phase) +
                                " before it begins at phase " + std::to_string(r.first_phase) +
                                "; phases are half-open [first_phase, end_phase)");
  }
  if (r.member < kSeveral) {
    throw std::invalid_argument(name(index) + " has member " + std::to_string(r.member) +
                                "; members count from 0, and -1 means several");
  }
}

void check_alignment(std::size_t alignment, const std::string& whose) {
  if (is_alignment(alignment)) return;
  throw std::invalid_argument(whose + " has alignment " + std::to_string(alignment) +
                              "; it must be a power of two");
}

void check_place(const Request& r, std::size_t index, std::size_t alignment) {
  if (r.at % alignment != 0) {
    throw std::invalid_argument(name(index) + " is fixed at offset " + std::to_string(r.at) +
                                ", which is no multiple of its alignment " +
                                std::to_string(alignment) + "; give a multiple");
  }
  if (r.at > kMostFixed || r.bytes > kMostFixed - r.at) {
    throw std::invalid_argument(name(index) + " of " + std::to_string(r.bytes) +
                                " bytes is fixed at offset " + std::to_string(r.at) +
                                " and ends beyond " + std::to_string(kMostFixed) +
                                "; give a lower one");
  }
}

/// What is placed one by one ends at most so much higher than what is fixed.
void check_top(std::span<const Item> items, std::size_t alignment, std::size_t left) {
  for (const Item& item : items) {
    if (item.at == kAnywhere || (item.at + item.size) * alignment <= left) continue;
    throw std::invalid_argument(name(item.request) + " is fixed at offset " +
                                std::to_string(item.at * alignment) +
                                " and may leave too little above it for all other requests; give a "
                                "lower one or ask for less");
  }
}

}  // namespace

std::vector<Item> items(std::span<const Request> requests, std::size_t alignment) {
  check_alignment(alignment, "plan: the plan");
  std::vector<Item> result;
  result.reserve(requests.size());
  const std::size_t most = most_bytes(alignment);
  std::size_t left = most;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Request& r = requests[i];
    check_times(r, i);
    const std::size_t own = std::max(r.alignment, alignment);
    if (r.alignment != 0) check_alignment(r.alignment, name(i));
    if (!alive(r)) continue;
    const auto bytes = checked_aligned(r.bytes, alignment);
    const std::size_t padding = own - alignment;
    if (!bytes || padding > left || *bytes > left - padding) {
      throw std::invalid_argument(name(i) + " of " + std::to_string(r.bytes) +
                                  " bytes brings the sum of all sizes beyond " +
                                  std::to_string(most) + "; ask for less");
    }
    left -= *bytes + padding;
    std::size_t at = r.at;
    if (at != kAnywhere) {
      check_place(r, i, own);
      at /= alignment;
    }
    result.push_back({i, *bytes / alignment, own / alignment, r.first, r.end, r.first_phase,
                      r.end_phase, r.member, at});
  }
  check_top(result, alignment, left);
  return result;
}

}  // namespace poolgrad::memory
