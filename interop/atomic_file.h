// AtomicFile: a file that appears under its name complete, or not at all.
#pragma once

#include <filesystem>
#include <span>

namespace poolgrad::interop {

/// Writes go to a temporary file beside `path`; commit() puts it in place. Destroyed without
/// commit(), it leaves nothing behind, and what was at `path` stays. Making one and letting it go
/// is how to ask, before long work, whether its result can be written.
class AtomicFile {
 public:
  /// Throws FileError when the folder is missing or cannot be written, or `path` is a folder.
  explicit AtomicFile(const std::filesystem::path& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  /// Throws FileError, for instance when the disk is full.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// Flushes to the disk, then renames: after a power cut, either file is whole. Throws FileError.
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_, temporary_;
  int file_ = -1;
};

}  // namespace poolgrad::interop
