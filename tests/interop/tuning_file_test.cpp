// Tables as files: read, written whole, refused.
#include "interop/tuning_file.h"

#include <fstream>
#include <sstream>

#include <doctest/doctest.h>
#include <unistd.h>

#include "engine/error.h"

namespace poolgrad::interop {
namespace {

namespace fs = std::filesystem;

struct Folder {
  fs::path path = fs::temp_directory_path() / ("poolgrad_tuning_" + std::to_string(getpid()));
  Folder() { fs::create_directory(path); }
  ~Folder() { fs::remove_all(path); }
};

TEST_CASE("tuning file: what is written is read, and nothing is written where nothing was added") {
  const Folder folder;
  const fs::path path = folder.path / "table";
  const auto fresh = read_tuning(path);
  CHECK(fresh->size() == 0);
  write_tuning(path, *fresh);
  CHECK_FALSE(fs::exists(path));
  fresh->set("op", "p", {"a", {{"a", 1.0}}});
  fresh->spent.problems = 1;
  write_tuning(path, *fresh);
  const auto read = read_tuning(path);
  CHECK(read->text() == fresh->text());
  CHECK(read->spent.problems == 0);
  CHECK(std::distance(fs::directory_iterator(folder.path), fs::directory_iterator()) == 1);
}

TEST_CASE("tuning file: folders, other files and places that cannot be written are refused") {
  const Folder folder;
  CHECK_THROWS_AS((void)read_tuning(folder.path), FileError);
  CHECK_THROWS_AS((void)read_tuning(folder.path / "none" / "table"), FileError);
  CHECK_THROWS_AS((void)read_tuning("/dev/zero"), FileError);
  const fs::path other = folder.path / "other";
  std::ofstream(other) << "weights";
  CHECK_THROWS_WITH_AS((void)read_tuning(other),
                       text("tune: '", other.string(),
                            "': is no table of tuned times, which begins 'poolgrad tuning 1'; name "
                            "another file")
                           .c_str(),
                       FileError);
  fs::resize_file(other, 17 << 20);
  CHECK_THROWS_WITH_AS((void)read_tuning(other),
                       text("tune: '", other.string(),
                            "' is larger than any table of tuned times; name another file")
                           .c_str(),
                       FileError);
}

}  // namespace
}  // namespace poolgrad::interop
