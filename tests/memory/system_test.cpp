// Available memory, read from made-up files of the system.
#include "memory/system.h"

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include <doctest/doctest.h>

namespace poolgrad::memory {
namespace {

namespace fs = std::filesystem;

/// A folder that looks like the root of a system, removed at the end.
class FakeRoot {
 public:
  FakeRoot() { fs::remove_all(path_); }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;
  ~FakeRoot() { fs::remove_all(path_); }

  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((path_ / file).parent_path());
    std::ofstream(path_ / file) << text;
  }
  [[nodiscard]] std::size_t available() const { return available_bytes(path_); }

 private:
  fs::path path_ = fs::temp_directory_path() / "poolgrad_system_test";
};

const std::string kMeminfo =
    "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    5000 kB\nBuffers: 3 kB\n";

TEST_CASE("system: without control groups it is what the machine has available") {
  const FakeRoot root;
  CHECK(root.available() == std::numeric_limits<std::size_t>::max());
  root.write("proc/meminfo", kMeminfo);
  CHECK(root.available() == std::size_t{5000} * 1024);
}

TEST_CASE("system: version 2 leaves its limit less what is used and cannot be dropped") {
  const FakeRoot root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "0::/jobs/one\n");
  root.write("sys/fs/cgroup/jobs/one/memory.max", "max\n");
  root.write("sys/fs/cgroup/jobs/one/memory.current", "700000\n");
  CHECK(root.available() == std::size_t{5000} * 1024);
  root.write("sys/fs/cgroup/jobs/one/memory.max", "1000000\n");
  CHECK(root.available() == 300'000);
  root.write("sys/fs/cgroup/jobs/one/memory.stat", "anon 600000\ninactive_file 50000\n");
  CHECK(root.available() == 350'000);
  root.write("sys/fs/cgroup/jobs/memory.max", "1000000\n");  // a group above counts too
  root.write("sys/fs/cgroup/jobs/memory.current", "990000\n");
  CHECK(root.available() == 10'000);
  root.write("sys/fs/cgroup/jobs/memory.current", "1990000\n");
  CHECK(root.available() == 0);
}

TEST_CASE("system: inside a container the group's files are at the root of the mount") {
  const FakeRoot root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "0::/\n");
  root.write("sys/fs/cgroup/memory.max", "2000000\n");
  root.write("sys/fs/cgroup/memory.current", "500000\n");
  CHECK(root.available() == 1'500'000);
}

TEST_CASE("system: version 1 has a group for memory alone") {
  const FakeRoot root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n1:name=systemd:/x\n");
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n");
  root.write("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "4000000\n");
  root.write("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "1000000\n");
  root.write("sys/fs/cgroup/memory/docker/abc/memory.stat", "cache 5\ntotal_inactive_file 7\n");
  CHECK(root.available() == 3'000'007);
}

TEST_CASE("system: this machine has some memory left") { CHECK(available_bytes() > 0); }

}  // namespace
}  // namespace poolgrad::memory
