// What an outside project does with the package: plans two buffers that never meet into one place.
#include <cstdio>
#include <vector>

#include "memory/arena.h"
#include "memory/plan.h"
#include "memory/resource.h"

int main() {
  namespace memory = poolgrad::memory;
  const std::vector<memory::Request> requests{{.bytes = 1000, .first = 0, .end = 1},
                                              {.bytes = 1000, .first = 1, .end = 2}};
  const memory::Plan plan = memory::plan(requests);
  memory::HostResource host;
  const memory::Arena arena(host, plan.arena_bytes);
  std::printf("%zu bytes for 2 buffers of 1000\n", arena.bytes());
  return plan.optimal() && arena.bytes() == 1024 ? 0 : 1;
}
