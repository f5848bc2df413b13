// Cores by affinity and by the quotas of control groups.
#include "engine/machine.h"

#include <fstream>

#include <doctest/doctest.h>
#include <unistd.h>

namespace poolgrad {
namespace {

namespace fs = std::filesystem;

/// A tree of system files that goes when the test ends.
struct Root {
  fs::path path = fs::temp_directory_path() / ("poolgrad_machine_" + std::to_string(getpid()));
  Root() { fs::create_directories(path / "proc/self"); }
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;
  ~Root() { fs::remove_all(path); }
  void put(const std::string& name, const std::string& text) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name) << text;
  }
};

TEST_CASE("cores: without control groups, those of the affinity") {
  const Root root;
  const int all = usable_cores(root.path);
  CHECK(all >= 1);
  root.put("proc/self/cgroup", "0::/job/step\n");
  root.put("sys/fs/cgroup/job/cpu.max", "max 100000\n");
  CHECK(usable_cores(root.path) == all);
}

TEST_CASE("cores: the smallest quota on the way up counts, and less than one is one") {
  const Root root;
  root.put("proc/self/cgroup", "0::/job/step\n");
  root.put("sys/fs/cgroup/job/cpu.max", "100000 100000\n");
  root.put("sys/fs/cgroup/job/step/cpu.max", "800000 100000\n");
  CHECK(usable_cores(root.path) == 1);
  root.put("sys/fs/cgroup/job/cpu.max", "50000 100000\n");
  CHECK(usable_cores(root.path) == 1);
}

TEST_CASE("cores: version 1 has two files, and -1 is no limit") {
  const Root root;
  const int all = usable_cores(root.path);
  root.put("proc/self/cgroup", "3:cpuacct,cpu:/job\n2:memory:/job\n");
  root.put("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n");
  root.put("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  CHECK(usable_cores(root.path) == all);
  root.put("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "100000\n");
  CHECK(usable_cores(root.path) == 1);
}

TEST_CASE("machine: has an instruction set and a kernel library") {
  CHECK_FALSE(instruction_set().empty());
  CHECK((kernel_library().starts_with("oneDNN ") || kernel_library().starts_with("Eigen ")));
}

}  // namespace
}  // namespace poolgrad
