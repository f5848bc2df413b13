// Plans: where each request lies in one block, so that no two that may be alive at one moment share
// a byte; how small any plan could be; and a checker that trusts neither. What plan() tries to get
// there is in the files plan_*.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "memory/alignment.h"

namespace poolgrad::memory {

inline constexpr int kSeveral = -1;  // Request::member of bytes that several members touch
inline constexpr std::size_t kAnywhere = std::numeric_limits<std::size_t>::max();  // Request::at

/// Bytes that are alive in steps [first, end), half-open.
///
/// Steps may be shared out among members of a team, who meet only between phases. Then bytes that
/// one member alone touches follow that member's clock, which runs through its own steps; all
/// others (member kSeveral) know only the phases [first_phase, end_phase) they are alive in.
/// A request of no bytes, no steps (of one member) or no phases is never alive.
struct Request {
  std::size_t bytes = 0;
  int first = 0;
  int end = 0;
  int member = 0;
  int first_phase = 0;
  int end_phase = 1;
  std::size_t alignment = 0;   // 0: the plan's. A smaller one than the plan's changes nothing
  std::size_t at = kAnywhere;  // a fixed offset in bytes
};

/// Whether the request is alive at all.
[[nodiscard]] constexpr bool alive(const Request& r) {
  return r.bytes > 0 && r.first_phase < r.end_phase && (r.member < 0 || r.first < r.end);
}

/// Whether both may be alive at one moment.
[[nodiscard]] constexpr bool together(const Request& a, const Request& b) {
  if (!alive(a) || !alive(b)) return false;
  if (a.member == b.member && a.member >= 0) return a.first < b.end && b.first < a.end;
  return a.first_phase < b.end_phase && b.first_phase < a.end_phase;
}

/// A moment at which as many bytes may be alive as at any other: a phase and, for each member with
/// bytes of its own in it, the step of that member (perhaps outside the phase) where those that
/// cover the phase weigh most.
struct Witness {
  struct Step {
    int member = 0;
    int step = 0;
    bool operator==(const Step&) const = default;
  };
  int phase = 0;
  std::vector<Step> steps;  // in the order of members

  bool operator==(const Witness&) const = default;
};

/// No plan can be smaller than `bytes`, because of `witness`.
struct Bound {
  std::size_t bytes = 0;
  Witness witness;
};

/// Why plan() went no further.
enum class Stop {
  done,    // no plan is smaller, or this one is within the capacity asked for
  proved,  // no plan is within the capacity asked for
  nodes,   // no trials left, or too many requests to search at all
  time,    // no time left
};
[[nodiscard]] std::string_view to_string(Stop stop);

struct Plan {
  std::vector<std::size_t> offsets;  // one per request; 0 for those never alive
  std::size_t arena_bytes = 0;
  std::size_t lower_bound_bytes = 0;
  Witness witness;               // of the bound
  std::size_t proved_bytes = 0;  // no plan is smaller: the bound, or more where a search showed it
  std::int64_t nodes = 0;        // trials of the searches
  Stop stop = Stop::done;

  /// Proved: no plan is smaller. False means only that this one may not be the smallest.
  [[nodiscard]] bool optimal() const { return arena_bytes == proved_bytes; }
};

struct PlanOptions {
  std::size_t alignment = kAlignment;  // of every offset and of the arena's size
  int rounds = -1;            // of improvement; -1: as many as the number of requests allows
  std::size_t capacity = 0;   // stop at a plan within so many bytes; 0: at the smallest
  std::int64_t nodes = 4000;  // trials of exact search, a few µs each; -1: any number
  double seconds = 0;         // where the search is cut at the latest; 0: no clock
};

/// Places `requests` in one block: greedy in several orders, then exact search at the lower bound
/// (or the capacity) and rounds of improvement, then at capacities between the bound and the plan.
///
/// Sizes are rounded up to the alignment. Deterministic: equal requests and options give equal
/// plans on every machine, unless the clock cuts the search. O(n²) in the number of requests up to
/// 32768; more of them, unless some have a fixed place, are placed once and not improved: intervals
/// in O(n k log k) where each is alive together with k others and that takes seconds at most, all
/// else in one sweep through time, in O(n log n).
/// Throws std::invalid_argument for a request that ends before it begins, a member below -1, an
/// alignment that is no power of two, sizes whose sum does not fit into std::size_t, and fixed
/// offsets that are not aligned, in conflict, or so high that the sum on top of them does not fit.
[[nodiscard]] Plan plan(std::span<const Request> requests, const PlanOptions& options = {});

/// The bytes of the heaviest set of requests that may all be alive at one moment, sizes rounded up
/// to `alignment`: the maximum over phases of the shared bytes in it plus, for each member, its
/// heaviest set that covers the phase and shares a step. O(n log n). Throws as plan() does.
[[nodiscard]] Bound lower_bound(std::span<const Request> requests,
                                std::size_t alignment = kAlignment);

/// The requests that `witness` names, in their order: pairwise alive together.
[[nodiscard]] std::vector<std::size_t> alive_at(std::span<const Request> requests,
                                                const Witness& witness);

/// Bytes without any reuse, sizes rounded up to `alignment`. Throws as plan() does.
[[nodiscard]] std::size_t sum_bytes(std::span<const Request> requests,
                                    std::size_t alignment = kAlignment);

/// Empty when `plan` is sound for `requests`, else the first offence in one sentence: an offset
/// missing, not on its alignment or beyond the arena, two requests that share a byte at one moment,
/// a bound that is no bound. Derives all of it anew and shares no code with plan(). O(n²).
[[nodiscard]] std::string check(const Plan& plan, std::span<const Request> requests,
                                std::size_t alignment = kAlignment);

}  // namespace poolgrad::memory
