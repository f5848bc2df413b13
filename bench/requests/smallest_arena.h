// The smallest arena there is, by trying every offset of every request.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

#include "memory/plan.h"

namespace poolgrad::memory::testing {

/// Whether `requests` from the `next` one on fit below `capacity` beside those before it.
inline bool fits(const std::vector<Request>& requests, std::size_t capacity,
                 std::vector<std::size_t>& offsets, std::size_t next = 0) {
  if (next == requests.size()) return true;
  const Request& r = requests[next];
  if (!alive(r)) return fits(requests, capacity, offsets, next + 1);
  for (std::size_t offset = 0; offset + r.bytes <= capacity; ++offset) {
    bool free = true;
    for (std::size_t p = 0; p < next && free; ++p) {
      const Request& other = requests[p];
      free = !together(r, other) || offset + r.bytes <= offsets[p] ||
             offsets[p] + other.bytes <= offset;
    }
    offsets[next] = offset;
    if (free && fits(requests, capacity, offsets, next + 1)) return true;
  }
  return false;
}

/// For few requests of a few bytes, alignment 1. Knows neither alignments nor fixed places.
inline std::size_t smallest_arena(const std::vector<Request>& requests) {
  std::vector<std::size_t> offsets(requests.size());
  std::size_t capacity = lower_bound(requests, 1).bytes;
  while (!fits(requests, capacity, offsets)) ++capacity;
  return capacity;
}

/// About a dozen requests that fill every step up to the bound, whoever they follow: at each step
/// some end and others of the same bytes in all begin. So many cannot be placed at their bound. Odd
/// seeds give a team of two.
inline std::vector<Request> crowded_requests(unsigned seed) {
  std::mt19937 random(seed);
  const auto below = [&random](std::size_t n) { return random() % n; };
  const int steps = 8 + static_cast<int>(below(6));
  std::vector<Request> requests;
  std::size_t free = 5 + below(4);
  for (int step = 0; step < steps; ++step) {
    for (Request& r : requests) {
      if (r.end <= step || below(4) != 0) continue;
      r.end = step;
      free += r.bytes;
    }
    for (; free > 0; free -= requests.back().bytes)
      requests.push_back({.bytes = 1 + below(free), .first = step, .end = steps});
  }
  for (Request& r : requests) {
    if (seed % 2 == 0) continue;
    r.member = static_cast<int>(below(3)) - 1;
    r.first_phase = r.first / 2;
    r.end_phase = (r.end - 1) / 2 + 1;
  }
  return requests;
}

/// Some 40 requests of one member that fill every step, few of which end at once: one in eight of
/// such sets does not fit at its bound.
inline std::vector<Request> tight_requests(unsigned seed) {
  std::mt19937 random(seed);
  const auto below = [&random](std::size_t n) { return random() % n; };
  const int steps = 40 + static_cast<int>(below(4));
  std::vector<Request> requests;
  std::size_t free = 6 + below(4);
  for (int step = 0; step < steps; ++step) {
    for (Request& r : requests) {
      if (r.end <= step || below(6) != 0) continue;
      r.end = step;
      free += r.bytes;
    }
    for (; free > 0; free -= requests.back().bytes) {
      const std::size_t bytes = 1 + below(free < 4 ? free : 4);
      requests.push_back({.bytes = bytes, .first = step, .end = steps});
    }
  }
  return requests;
}

}  // namespace poolgrad::memory::testing
