#include "engine/backend/x86_level.h"

#include "engine/backend/loops.h"  // POOLGRAD_X86_LEVEL

namespace poolgrad {

int x86_level() {
#ifdef POOLGRAD_X86_LEVELS
  if (POOLGRAD_X86_LEVEL >= 4 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
    return 4;
  if (POOLGRAD_X86_LEVEL >= 3 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2"))
    return 3;
#endif
  return 1;
}

}  // namespace poolgrad
