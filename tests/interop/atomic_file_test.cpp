// Files that appear whole or not at all.
#include "interop/atomic_file.h"

#include <fstream>
#include <sstream>

#include <doctest/doctest.h>
#include <unistd.h>

#include "engine/error.h"

namespace poolgrad::interop {
namespace {

namespace fs = std::filesystem;

struct Folder {
  fs::path path = fs::temp_directory_path() / ("poolgrad_atomic_" + std::to_string(getpid()));
  Folder() { fs::create_directory(path); }
  ~Folder() { fs::remove_all(path); }
  [[nodiscard]] std::ptrdiff_t files() const {
    return std::distance(fs::directory_iterator(path), fs::directory_iterator());
  }
};

std::string contents(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

TEST_CASE("atomic file: nothing is there before commit, everything after") {
  const Folder folder;
  const fs::path path = folder.path / "weights";
  {
    AtomicFile file(path);
    file.write("half");
    CHECK_FALSE(fs::exists(path));
    file.write(" and half");
    file.commit();
  }
  CHECK(contents(path) == "half and half");
  CHECK(folder.files() == 1);
}

TEST_CASE("atomic file: let go without commit, it leaves the old file and nothing else") {
  const Folder folder;
  const fs::path path = folder.path / "weights";
  std::ofstream(path) << "old";
  { AtomicFile(path).write("new"); }
  CHECK(contents(path) == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("atomic file: a folder that is missing, and a name that is a folder") {
  const Folder folder;
  CHECK_THROWS_AS(AtomicFile(folder.path / "none" / "weights"), FileError);
  CHECK_THROWS_AS(AtomicFile{folder.path}, FileError);
}

}  // namespace
}  // namespace poolgrad::interop
