// Asks the processor, the libraries and the system.
#include "engine/machine.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <thread>

#include <Eigen/Core>
#include <sched.h>

#include "engine/backend/x86_level.h"
#include "engine/error.h"
#ifdef POOLGRAD_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#endif

namespace poolgrad {
namespace {

namespace fs = std::filesystem;

std::string eigen() {
  return text("Eigen ", EIGEN_WORLD_VERSION, ".", EIGEN_MAJOR_VERSION, ".", EIGEN_MINOR_VERSION);
}

int cores_by_affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());
}

/// Processor time per time that a control group may take; 0: no limit.
double quota_of_group(const fs::path& group) {
  double quota = 0, period = 0;
  if (std::ifstream file(group / "cpu.max"); file >> quota >> period && period > 0)
    return quota / period;
  std::ifstream quota_file(group / "cpu.cfs_quota_us"), period_file(group / "cpu.cfs_period_us");
  if (quota_file >> quota && period_file >> period && quota > 0 && period > 0)
    return quota / period;
  return 0;
}

/// The least that the group `path` and those above it leave; `limit` where none says less.
double least_quota(const fs::path& mount, const fs::path& path, double limit) {
  fs::path group = mount;
  const auto take = [&] {
    if (const double quota = quota_of_group(group); quota > 0) limit = std::min(limit, quota);
  };
  take();
  for (const fs::path& part : path.relative_path()) {
    group /= part;
    take();
  }
  return limit;
}

double cores_by_quota(const fs::path& root, double limit) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // id:controllers:path
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const fs::path path = line.substr(second + 1);
    if (controllers == ",,") limit = least_quota(root / "sys/fs/cgroup", path, limit);
    if (controllers.find(",cpu,") != std::string::npos)
      limit = least_quota(root / "sys/fs/cgroup/cpu", path, limit);
  }
  return limit;
}

}  // namespace

std::string instruction_set() {
  const int level = x86_level();
  return level == 4 ? "avx512" : level == 3 ? "avx2" : "baseline";
}

std::string kernel_library() {
#ifdef POOLGRAD_ONEDNN
  const dnnl_version_t* version = dnnl_version();
  return text("oneDNN ", version->major, ".", version->minor, ".", version->patch);
#else
  return eigen();
#endif
}

std::string kernels_run_on() {
#ifdef POOLGRAD_ONEDNN
  std::ostringstream isa;  // a set of bits in dnnl_types.h; DNNL_MAX_CPU_ISA can narrow it
  isa << std::hex << static_cast<unsigned>(dnnl_get_effective_cpu_isa());
  return text(instruction_set(), ", ", kernel_library(), " with isa 0x", isa.str(), ", ", eigen());
#else
  return text(instruction_set(), ", ", eigen());
#endif
}

int usable_cores(const fs::path& root) {
  const int cores = cores_by_affinity();
  return std::max(1, static_cast<int>(std::floor(cores_by_quota(root, cores))));
}

}  // namespace poolgrad
