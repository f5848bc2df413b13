// Reads /proc/meminfo and the control groups' files.
#include "memory/system.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

namespace poolgrad::memory {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kUnlimited = std::numeric_limits<std::size_t>::max();

/// The number behind `name` in a file of lines "name number". Nothing when there is none.
std::optional<std::size_t> field(const fs::path& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    std::size_t value = 0;
    if (word == name && file >> value) return value;
    file.clear();
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

/// The number a file holds. Nothing when it holds none, as "max" for no limit.
std::optional<std::size_t> number(const fs::path& path) {
  std::ifstream file(path);
  std::size_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

std::size_t machine_bytes(const fs::path& root) {
  const auto kibibytes = field(root / "proc/meminfo", "MemAvailable:");
  return kibibytes ? *kibibytes * 1024 : kUnlimited;
}

/// The files of one version of control groups.
struct Names {
  const char* mount;
  const char* limit;
  const char* usage;
  const char* droppable;  // in memory.stat: file pages that are counted but can be dropped
};

constexpr Names kVersion2{"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"};
constexpr Names kVersion1{"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                          "total_inactive_file"};

std::size_t group_bytes(const fs::path& group, const Names& names) {
  const auto limit = number(group / names.limit);
  const auto usage = number(group / names.usage);
  if (!limit || !usage) return kUnlimited;
  const std::size_t droppable = field(group / "memory.stat", names.droppable).value_or(0);
  const std::size_t taken = *usage - std::min(*usage, droppable);
  return *limit - std::min(*limit, taken);
}

/// The least that the group `path` and those above it leave.
std::size_t groups_bytes(const fs::path& root, const Names& names, const std::string& path) {
  const fs::path mount = root / names.mount;
  std::size_t result = group_bytes(mount, names);
  fs::path group = mount;
  for (const fs::path& part : fs::path(path).relative_path()) {
    group /= part;
    result = std::min(result, group_bytes(group, names));
  }
  return result;
}

/// Lines of /proc/self/cgroup are id:controllers:path; version 2 has no controllers there.
std::size_t control_group_bytes(const fs::path& root) {
  std::size_t result = kUnlimited;
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool memory = controllers.find(",memory,") != std::string::npos;
    if (!memory && controllers != ",,") continue;
    result = std::min(result,
                      groups_bytes(root, memory ? kVersion1 : kVersion2, line.substr(second + 1)));
  }
  return result;
}

}  // namespace

std::size_t available_bytes(const fs::path& root) {
  return std::min(machine_bytes(root), control_group_bytes(root));
}

}  // namespace poolgrad::memory
