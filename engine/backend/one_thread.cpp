// By OpenMP's thread count, which is a setting of the calling thread and costs nothing to change.
#include "engine/backend/one_thread.h"

#include "memory/allocation_count.h"

#ifdef POOLGRAD_ONEDNN
extern "C" int omp_get_max_threads();
extern "C" void omp_set_num_threads(int);
#endif

namespace poolgrad {

#ifdef POOLGRAD_ONEDNN
OneThread::OneThread() : before_(omp_get_max_threads()) { use_one_thread(); }
OneThread::~OneThread() { omp_set_num_threads(before_); }
void use_one_thread() {
  const memory::InLibrary mark;  // a thread's first setting is allocated
  omp_set_num_threads(1);
}
#else
OneThread::OneThread() = default;
OneThread::~OneThread() = default;
void use_one_thread() {}
#endif

}  // namespace poolgrad
