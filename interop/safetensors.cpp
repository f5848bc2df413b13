// Writing, and reading what safetensors_header.h has checked.
#include "interop/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <fstream>
#include <map>
#include <set>

#include <nlohmann/json.hpp>
#include <zlib.h>

#include "engine/error.h"
#include "interop/atomic_file.h"
#include "interop/safetensors_header.h"
#include "memory/arena.h"

namespace poolgrad::interop {
namespace {

namespace fs = std::filesystem;

/// A dense copy, unless it is dense already.
ArrayView row_major(const ArrayView& array) {
  if (array.row_major()) return array;
  auto bytes = std::make_shared<std::vector<std::byte>>(array.bytes());
  ArrayView dense{
      bytes->data(), array.shape, Spec{array.shape}.strides(), array.dtype, array.place, {}, false};
  dense.owner = std::move(bytes);
  copy(array, dense);
  return dense;
}

/// The largest power of two up to 64 that divides `bytes`.
std::size_t alignment_of(std::size_t bytes) {
  return bytes == 0 ? memory::kAlignment
                    : std::min(memory::kAlignment, std::size_t{1} << std::countr_zero(bytes));
}

void check_arrays(std::span<const NamedArray> arrays) {
  std::set<std::string_view> names;
  for (const auto& [name, array] : arrays) {
    if (name == "__metadata__" || !names.insert(name).second) {
      throw ArgumentError(text("safetensors: the name '", name,
                               "' is taken; give each array one of "
                               "its own, other than __metadata__"));
    }
    if (array.place.space != memory::Space::host) {
      throw ExportError(
          text("safetensors: '", name, "' is not in host memory; copy it there first"));
    }
  }
}

/// As kChecksum says.
std::string checksum(std::span<const NamedArray> arrays, const Metadata& metadata) {
  uLong crc = 0;
  const auto add = [&](const std::string& text) {
    crc = crc32_z(crc, reinterpret_cast<const Bytef*>(text.c_str()), text.size() + 1);
  };
  std::map<std::string_view, const ArrayView*> ordered;
  for (const NamedArray& named : arrays) ordered[named.name] = &named.array;
  for (const auto& [name, array] : ordered) {
    add(std::string(name));
    add(safetensors_name(array->dtype));
    add(to_string(array->shape));
    const ArrayView dense = row_major(*array);
    if (dense.bytes() > 0) crc = crc32_z(crc, static_cast<const Bytef*>(dense.data), dense.bytes());
  }
  for (const auto& [key, value] : metadata) {
    if (key == kChecksum) continue;
    add(key);
    add(value);
  }
  char digits[9];
  (void)std::snprintf(digits, sizeof digits, "%08lx", crc);
  return digits;
}

std::string header_of(std::span<const NamedArray* const> arrays, const Metadata& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const NamedArray* named : arrays) {
    const ArrayView& array = named->array;
    header[named->name] = {{"dtype", safetensors_name(array.dtype)},
                           {"shape", array.shape.extents()},
                           {"data_offsets", {offset, offset + array.bytes()}}};
    offset += array.bytes();
  }
  std::string result;
  try {
    result = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw ArgumentError("safetensors: a name or a piece of metadata is not UTF-8; rename it");
  }
  result.resize(memory::aligned(8 + result.size()) - 8, ' ');
  return result;
}

SafetensorsHeader ordered_header(std::istream& file, const fs::path& path) {
  SafetensorsHeader header = read_safetensors_header(file, path);
  std::ranges::stable_sort(header.arrays, {},
                           [](const HeaderArray& a) { return std::pair(a.begin, a.end); });
  return header;
}

}  // namespace

void write_safetensors(const fs::path& path, std::span<const NamedArray> arrays,
                       const Metadata& metadata) {
  check_arrays(arrays);
  std::vector<const NamedArray*> ordered;
  for (const NamedArray& named : arrays) ordered.push_back(&named);
  std::ranges::stable_sort(ordered, std::ranges::greater{}, [](const NamedArray* named) {
    return alignment_of(named->array.bytes());
  });
  Metadata checked = metadata;
  checked[kChecksum] = checksum(arrays, metadata);
  const std::string header = header_of(ordered, checked);

  AtomicFile file(path);
  std::array<std::byte, 8> length{};
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<std::byte>(header.size() >> (8 * i));
  file.write(length);
  file.write(header);
  for (const NamedArray* named : ordered) {
    const ArrayView dense = row_major(named->array);
    file.write({static_cast<const std::byte*>(dense.data), dense.bytes()});
  }
  file.commit();
}

Safetensors inspect_safetensors(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  SafetensorsHeader header = ordered_header(file, path);
  Safetensors result{{}, std::move(header.metadata)};
  result.metadata.erase(kChecksum);
  for (const HeaderArray& array : header.arrays)
    result.arrays.push_back(
        {array.name, {nullptr, array.shape, Spec{array.shape}.strides(), array.dtype, {}, {}}});
  return result;
}

Safetensors read_safetensors(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  SafetensorsHeader header = ordered_header(file, path);
  std::size_t bytes = 0;
  for (const HeaderArray& array : header.arrays) bytes += memory::aligned(array.end - array.begin);
  const auto block =
      std::make_shared<memory::Arena>(std::make_shared<memory::HostResource>(), bytes);

  Safetensors result{{}, std::move(header.metadata)};
  std::size_t at = 0;
  for (const HeaderArray& array : header.arrays) {
    const std::size_t size = array.end - array.begin;
    file.seekg(static_cast<std::streamoff>(header.data_begin + array.begin));
    file.read(reinterpret_cast<char*>(block->at(at)), static_cast<std::streamsize>(size));
    if (!file)
      throw FileError(text("safetensors: '", path.string(), "' could not be read to its end"));
    result.arrays.push_back({array.name,
                             {block->at(at), array.shape, Spec{array.shape}.strides(), array.dtype,
                              block->place(), block, false}});
    at += memory::aligned(size);
  }
  const auto stated = result.metadata.find(kChecksum);
  if (stated == result.metadata.end()) return result;
  if (const std::string found = checksum(result.arrays, result.metadata); stated->second != found)
    throw FileError(text("safetensors: '", path.string(), "' holds what has checksum ", found,
                         " but states ", stated->second,
                         "; it is damaged, or was changed by hand: then take ", kChecksum,
                         " out of its metadata"));
  result.metadata.erase(stated);
  return result;
}

}  // namespace poolgrad::interop
