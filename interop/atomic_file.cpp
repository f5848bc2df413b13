// POSIX calls: the standard library can neither flush to the disk nor make a file of a unique name.
#include "interop/atomic_file.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/error.h"

namespace poolgrad::interop {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// mkstemp makes files for their owner only; others get what the process's mask leaves them.
void give_usual_permissions(int file) {
  const mode_t mask = umask(0);
  umask(mask);
  (void)fchmod(file, 0666 & ~mask);
}

}  // namespace

AtomicFile::AtomicFile(const fs::path& path) : path_(path) {
  if (path.empty() || path.filename().empty() || fs::is_directory(path)) {
    throw FileError(
        text("file: '", path.string(), "' is a folder; name a file in it to be written"));
  }
  std::string name = path.string() + ".XXXXXX";
  file_ = mkstemp(name.data());
  if (file_ < 0) fail("cannot be written");
  temporary_ = name;
  give_usual_permissions(file_);
}

AtomicFile::~AtomicFile() {
  if (file_ < 0) return;
  close(file_);
  unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::write(file_, bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail("cannot be written");
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
}

void AtomicFile::commit() {
  if (fsync(file_) != 0) fail("cannot be flushed to the disk");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot be put in place");
  close(file_);
  file_ = -1;
  // The new name is in the folder's own data. Not every file system can flush that; the file is
  // whole.
  const int folder = open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY);
  if (folder < 0) return;
  (void)fsync(folder);
  close(folder);
}

void AtomicFile::fail(const char* what) const {
  throw FileError(text("file: '", path_.string(), "' ", what, " (", std::strerror(errno),
                       "); choose a folder that exists, has room and may be written"));
}

}  // namespace poolgrad::interop
