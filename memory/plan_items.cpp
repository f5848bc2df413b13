// Checks requests and measures them in units of the plan's alignment. Placing is not here.
#include "memory/plan_items.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

namespace poolgrad::memory {
namespace {

// Half of what there is: a sum of all sizes on top of it still fits.
constexpr std::size_t kMostFixed = std::numeric_limits<std::size_t>::max() / 2;

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

}  // namespace

std::vector<Item> items(std::span<const Request> requests, std::size_t alignment) {
  check_alignment(alignment, "plan: the plan");
  std::vector<Item> result;
  result.reserve(requests.size());
  std::size_t left = std::numeric_limits<std::size_t>::max() - (alignment - 1);
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
                                  std::to_string(std::numeric_limits<std::size_t>::max()) +
                                  "; ask for less");
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
  return result;
}

}  // namespace poolgrad::memory
