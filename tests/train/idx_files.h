// Folders with IDX files, made for tests.
#pragma once

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <unistd.h>
#include <zlib.h>

namespace poolgrad::testing {

/// A folder that goes when the test ends.
struct Folder {
  std::filesystem::path path;

  Folder() {
    static std::atomic<int> count = 0;
    path = std::filesystem::temp_directory_path() /
           ("poolgrad_idx_" + std::to_string(getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directory(path);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path); }

  std::filesystem::path put(const std::string& name, const std::string& bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return path / name;
  }
  std::filesystem::path put_gz(const std::string& name, const std::string& bytes) const {
    const gzFile file = gzopen((path / name).c_str(), "wb");
    gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(file);
    return path / name;
  }
  [[nodiscard]] std::string gz(const std::string& bytes) const {
    std::ostringstream out;
    out << std::ifstream(put_gz("scratch.gz", bytes), std::ios::binary).rdbuf();
    return out.str();
  }
};

/// The bytes of an IDX file.
inline std::string idx(const std::vector<std::int64_t>& extents, const std::string& data,
                       char type = '\x08') {
  std::string bytes{'\0', '\0', type, static_cast<char>(extents.size())};
  for (const std::int64_t extent : extents) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(extent >> shift);
  }
  return bytes + data;
}

}  // namespace poolgrad::testing
