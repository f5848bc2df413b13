// Reads at once what is small, and writes by AtomicFile.
#include "interop/tuning_file.h"

#include <fstream>
#include <iterator>

#include "engine/error.h"
#include "interop/atomic_file.h"

namespace poolgrad::interop {
namespace {

constexpr std::uintmax_t kMostBytes = 16 << 20;  // 100,000 problems; no table is that long

}  // namespace

std::shared_ptr<Tuning> read_tuning(const std::filesystem::path& path) {
  const std::string name = text("tune: '", path.string(), "'");
  std::error_code none;
  if (!std::filesystem::exists(path, none)) {
    const AtomicFile writable(path);
    return std::make_shared<Tuning>();
  }
  if (!std::filesystem::is_regular_file(path, none))
    throw FileError(text(name, " is no plain file; name one, or one to be made"));
  if (std::filesystem::file_size(path, none) > kMostBytes)
    throw FileError(text(name, " is larger than any table of tuned times; name another file"));
  std::ifstream file(path, std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw FileError(text(name, " cannot be read; look at its permissions"));
  return std::make_shared<Tuning>(Tuning::parse(whole, name));
}

void write_tuning(const std::filesystem::path& path, const Tuning& tuning) {
  if (tuning.spent.problems == 0) return;
  AtomicFile file(path);
  file.write(tuning.text());
  file.commit();
}

}  // namespace poolgrad::interop
