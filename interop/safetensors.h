// safetensors, the weights file that PyTorch, JAX and others read: a JSON header, then the bytes.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "engine/array.h"

namespace poolgrad::interop {

using Metadata = std::map<std::string, std::string>;

/// Metadata of every file that is written here: eight digits of zlib's crc32 of what the file says,
/// whatever the order in it. That is, for each array in the order of names, name, dtype and shape
/// (as in "0.bias", "F32", "[10]") and its bytes; then for the rest of the metadata, in the order
/// of keys, key and value. A zero byte follows each of these texts.
inline constexpr const char* kChecksum = "poolgrad.crc32";

/// Writes `arrays` to `path`, complete or not at all. Always in row-major order, whatever the
/// strides. Arrays of a multiple of 64 bytes come first and begin on 64 bytes in the file, so that
/// whoever maps it finds them aligned; the others follow, each aligned for its dtype. Metadata gets
/// kChecksum beside. Throws ArgumentError for a name that is taken twice, is "__metadata__" or no
/// UTF-8, ExportError for bytes outside host memory, FileError when the file cannot be written.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedArray> arrays,
                       const Metadata& metadata = {});

struct Safetensors {
  std::vector<NamedArray> arrays;  // in the order of their bytes in the file
  Metadata metadata;               // without kChecksum
};

/// Reads a whole file; the views share one block, each on 64 bytes of it, and keep it alive.
///
/// Strict: throws FileError, naming the file and what is wrong, unless the header is one JSON
/// object of at most 100 MB without a name twice, every dtype is one of ours, every shape fits its
/// bytes, the arrays cover the rest of the file without gap or overlap, and kChecksum, where the
/// file has one, is right. Takes no more memory than the file's size and 64 bytes per array.
[[nodiscard]] Safetensors read_safetensors(const std::filesystem::path& path);

/// The same by the header alone: what is in a file, before memory is taken for it. The views have
/// no data. Throws as read_safetensors() does, but for the checksum.
[[nodiscard]] Safetensors inspect_safetensors(const std::filesystem::path& path);

}  // namespace poolgrad::interop
