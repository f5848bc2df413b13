// How often a test repeats what each time has to hold: where a sanitizer makes steps many times as
// slow, less often. What happens once happens there too.
#pragma once

namespace poolgrad::testing {

#ifdef POOLGRAD_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

[[nodiscard]] constexpr int times(int usually, int sanitized) {
  return kSanitized ? sanitized : usually;
}

}  // namespace poolgrad::testing
