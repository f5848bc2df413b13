// Forks: whether this process is still the one that made something with threads.
#pragma once

namespace poolgrad::memory {

/// How often this process was forked off from another since the first call. What holds threads
/// remembers the number: in a child it has changed, and the threads are not there.
[[nodiscard]] unsigned forks();

}  // namespace poolgrad::memory
