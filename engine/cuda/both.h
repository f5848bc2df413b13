// POOLGRAD_BOTH: a function that host and device share, so that both compute the same expression
// and tests on the CPU speak for both.
#pragma once

#ifdef __CUDACC__
#define POOLGRAD_BOTH __host__ __device__
#else
#define POOLGRAD_BOTH
#endif
