// The checker: derives from the requests alone whether a plan is sound. It shares no code with the
// planner, together() included, so that a mistake there cannot hide here.
#include <algorithm>
#include <utility>

#include "memory/plan.h"

namespace poolgrad::memory {
namespace {

using Index = std::size_t;

std::string name(Index i) { return "request " + std::to_string(i); }

std::string range(std::size_t offset, std::size_t bytes) {
  return "[" + std::to_string(offset) + ", " + std::to_string(offset + bytes) + ")";
}

/// Whether the half-open ranges have a point in common.
bool meet(int first_a, int end_a, int first_b, int end_b) {
  return std::max(first_a, first_b) < std::min(end_a, end_b);
}

/// One member runs through its steps in order, so there the steps decide. Two members run at their
/// own pace between two phases, so there any common phase may be a common moment.
bool at_one_moment(const Request& a, const Request& b) {
  const bool one_clock = a.member == b.member && a.member != kSeveral;
  return one_clock ? meet(a.first, a.end, b.first, b.end)
                   : meet(a.first_phase, a.end_phase, b.first_phase, b.end_phase);
}

bool needs_bytes(const Request& r) {
  if (r.bytes == 0 || r.end_phase <= r.first_phase) return false;
  return r.member == kSeveral || r.end > r.first;
}

std::string check_place(const Plan& plan, const Request& r, Index i, std::size_t alignment) {
  const std::size_t offset = plan.offsets[i];
  for (const std::size_t wanted : {alignment, r.alignment}) {
    if (wanted != 0 && offset % wanted != 0) {
      return name(i) + " lies at offset " + std::to_string(offset) +
             ", which is no multiple of its alignment " + std::to_string(wanted);
    }
  }
  if (r.at != kAnywhere && offset != r.at) {
    return name(i) + " lies at offset " + std::to_string(offset) + ", not where it is fixed, at " +
           std::to_string(r.at);
  }
  if (r.bytes > plan.arena_bytes || offset > plan.arena_bytes - r.bytes) {
    return name(i) + " of " + std::to_string(r.bytes) + " bytes at offset " +
           std::to_string(offset) + " ends beyond the arena of " +
           std::to_string(plan.arena_bytes) + " bytes";
  }
  return "";
}

/// Walks up the block: behind each request only those that begin before it ends can share its
/// bytes.
std::string check_overlaps(const Plan& plan, std::span<const Request> requests,
                           std::vector<Index> live) {
  std::ranges::sort(live, {}, [&](Index i) { return std::pair(plan.offsets[i], i); });
  for (auto low = live.begin(); low != live.end(); ++low) {
    const std::size_t end = plan.offsets[*low] + requests[*low].bytes;
    for (auto high = low + 1; high != live.end() && plan.offsets[*high] < end; ++high) {
      if (!at_one_moment(requests[*low], requests[*high])) continue;
      const auto [a, b] = std::minmax(*low, *high);
      return "requests " + std::to_string(a) + " and " + std::to_string(b) +
             " may be alive at one moment but share bytes: " +
             range(plan.offsets[a], requests[a].bytes) + " and " +
             range(plan.offsets[b], requests[b].bytes);
    }
  }
  return "";
}

/// The bound is proved by requests that are pairwise alive together: those the witness names.
std::string check_bound(const Plan& plan, std::span<const Request> requests,
                        const std::vector<Index>& live, std::size_t alignment) {
  if (plan.lower_bound_bytes > plan.arena_bytes) {
    return "the lower bound of " + std::to_string(plan.lower_bound_bytes) +
           " bytes is above the arena of " + std::to_string(plan.arena_bytes) + " bytes";
  }
  if (plan.lower_bound_bytes == 0) return "";  // claims nothing
  for (std::size_t k = 1; k < plan.witness.steps.size(); ++k) {
    if (plan.witness.steps[k - 1].member >= plan.witness.steps[k].member) {
      return "the witness of the lower bound names member " +
             std::to_string(plan.witness.steps[k].member) + " out of order or twice";
    }
  }
  std::size_t bytes = 0;
  for (const Index i : live) {
    const Request& r = requests[i];
    bool named = r.first_phase <= plan.witness.phase && plan.witness.phase < r.end_phase;
    if (named && r.member != kSeveral) {
      named = std::ranges::any_of(plan.witness.steps, [&](const Witness::Step& s) {
        return s.member == r.member && r.first <= s.step && s.step < r.end;
      });
    }
    if (named) bytes += (r.bytes + alignment - 1) / alignment * alignment;
  }
  if (bytes == plan.lower_bound_bytes) return "";
  return "the witness of the lower bound has " + std::to_string(bytes) + " bytes alive, not " +
         std::to_string(plan.lower_bound_bytes);
}

}  // namespace

std::string check(const Plan& plan, std::span<const Request> requests, std::size_t alignment) {
  if (plan.offsets.size() != requests.size()) {
    return "the plan has " + std::to_string(plan.offsets.size()) + " offsets for " +
           std::to_string(requests.size()) + " requests";
  }
  if (plan.arena_bytes % alignment != 0) {
    return "the arena of " + std::to_string(plan.arena_bytes) +
           " bytes is no multiple of the alignment " + std::to_string(alignment);
  }
  std::vector<Index> live;
  for (Index i = 0; i < requests.size(); ++i) {
    if (!needs_bytes(requests[i])) continue;
    live.push_back(i);
    if (std::string offence = check_place(plan, requests[i], i, alignment); !offence.empty()) {
      return offence;
    }
  }
  if (std::string offence = check_overlaps(plan, requests, live); !offence.empty()) return offence;
  return check_bound(plan, requests, live, alignment);
}

}  // namespace poolgrad::memory
