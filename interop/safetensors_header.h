// The header of a safetensors file, read from a file that nobody trusts. Used by safetensors.cpp
// alone.
#pragma once

#include <filesystem>
#include <istream>

#include "interop/safetensors.h"

namespace poolgrad::interop {

/// Bytes [begin, end) behind the header. Checked: they are in the file and as many as the shape
/// needs.
struct HeaderArray {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::size_t begin = 0, end = 0;
};

struct SafetensorsHeader {
  std::vector<HeaderArray> arrays;  // in the order of the header
  Metadata metadata;
  std::size_t data_begin = 0;  // in the file
};

/// Throws FileError; `path` is for the message and for the file's size.
[[nodiscard]] SafetensorsHeader read_safetensors_header(std::istream& file,
                                                        const std::filesystem::path& path);

/// "F32", "I64", ...
[[nodiscard]] std::string safetensors_name(DType dtype);

}  // namespace poolgrad::interop
