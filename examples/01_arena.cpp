// Buffers that are needed at known times, in one block that is no larger than it must be.
//
// This is the idea under everything else: a program known in advance can be given all its memory
// before it starts. memory/plan.h finds the places, memory/arena.h holds the bytes.
#include <cstdio>
#include <vector>

#include "memory/arena.h"
#include "memory/plan.h"

int main() {
  using namespace poolgrad::memory;

  // Who needs how many bytes in which steps [first, end). "a" is dead when "c" is born, so both can
  // have the same bytes; "b" lives across both.
  const std::vector<Request> requests{
      {.bytes = 4096, .first = 0, .end = 2},  // a
      {.bytes = 1024, .first = 1, .end = 4},  // b
      {.bytes = 3072, .first = 2, .end = 5},  // c
      {.bytes = 2048, .first = 4, .end = 6},  // d
  };
  const Plan found = plan(requests);
  std::printf("%zu bytes without reuse, %zu with, and no plan can do with less than %zu\n",
              sum_bytes(requests), found.arena_bytes, found.lower_bound_bytes);

  // check() trusts nobody: it derives anew who is alive together, and compares bytes.
  const std::string offence = check(found, requests);
  if (!offence.empty()) {
    std::printf("unsound: %s\n", offence.c_str());
    return 1;
  }

  // One allocation, with a guard behind it that tells whether someone wrote too far.
  HostResource heap;
  Arena arena(heap, found.arena_bytes, /*guard_bytes=*/64);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    std::printf("%c: steps %d to %d, bytes %5zu to %5zu  ", static_cast<char>('a' + i),
                requests[i].first, requests[i].end - 1, found.offsets[i],
                found.offsets[i] + requests[i].bytes - 1);
    for (int step = 0; step < 6; ++step)
      std::printf("%c", step >= requests[i].first && step < requests[i].end ? '#' : '.');
    std::printf("\n");
    *arena.at(found.offsets[i]) = std::byte{1};  // an address, without asking anybody
  }
  std::printf("guard intact: %s\n", arena.guards_intact() ? "yes" : "no");
}
