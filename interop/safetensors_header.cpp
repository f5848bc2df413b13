// Events of a JSON parser that does not recurse, checked one by one. No number is used before it is
// held against the size of the file.
#include "interop/safetensors_header.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "engine/error.h"

namespace poolgrad::interop {
namespace {

constexpr std::uint64_t kMostHeaderBytes = 100'000'000;  // the reference reader's limit
constexpr int kMostDepth = 32;

constexpr std::array<const char*, 8> kNames{"F32", "F64", "F16", "BF16",
                                            "I64", "I32", "U8",  "BOOL"};

/// What is wrong, without the file's name: that is added where it is known.
struct Wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <typename... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  throw Wrong(text(parts...));
}

/// One array as the header states it, before it is believed.
struct Stated {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<std::uint64_t>> shape, offsets;
};

/// Depth 1 holds the names, depth 2 the fields of one array, depth 3 the numbers of one field.
class Handler : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<Stated> arrays;
  Metadata metadata;

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_float(number_float_t, const string_t&) override { return value("a fraction"); }
  bool binary(binary_t&) override { return value("binary"); }
  bool number_integer(number_integer_t) override { return value("a negative number"); }
  bool number_unsigned(number_unsigned_t number) override {
    if (numbers_ == nullptr || depth_ != 3) return value("a number");
    numbers_->push_back(number);
    return true;
  }

  bool string(string_t& text) override {
    if (depth_ == 2 && in_metadata_) {
      metadata[field_] = text;
      return true;
    }
    if (depth_ == 2 && field_ == "dtype") {
      arrays.back().dtype = text;
      return true;
    }
    return value("a string");
  }

  bool start_object(std::size_t) override {
    if (depth_ > 0) (void)value("an object", /*opens_array=*/depth_ == 1);
    return deeper();
  }
  bool key(string_t& key) override {
    if (depth_ == 1) {
      if (!names_.insert(key).second) refuse("has the name '", key, "' twice");
      in_metadata_ = key == "__metadata__";
      name_ = key;
      fields_.clear();
    } else if (depth_ == 2) {
      if (!fields_.insert(key).second) refuse("has '", key, "' twice in '", name_, "'");
      field_ = key;
    }
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }

  bool start_array(std::size_t) override {
    if (depth_ == 2 && !in_metadata_ && (field_ == "shape" || field_ == "data_offsets")) {
      auto& numbers = field_ == "shape" ? arrays.back().shape : arrays.back().offsets;
      numbers_ = &numbers.emplace();
    } else {
      (void)value("an array");
    }
    return deeper();
  }
  bool end_array() override {
    --depth_;
    if (depth_ == 2) numbers_ = nullptr;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    refuse("has a header that is not JSON, at byte ", position);
  }

 private:
  /// A value that is not taken: allowed only in a field that is not ours to read.
  bool value(const char* what, bool opens_array = false) {
    if (depth_ == 0) refuse("has a header that is ", what, ", not an object");
    if (depth_ == 1) {
      if (!opens_array) refuse("has ", what, " for '", name_, "', not an object");
      if (!in_metadata_) arrays.push_back({.name = name_, .dtype = {}, .shape = {}, .offsets = {}});
      return true;
    }
    if (in_metadata_) refuse("has ", what, " in its metadata, not a string");
    if (field_ == "dtype" || field_ == "shape" || field_ == "data_offsets")
      refuse("has ", what, " in '", field_, "' of '", name_, "'");
    return true;
  }
  bool deeper() {
    if (++depth_ > kMostDepth) refuse("has a header nested deeper than ", kMostDepth);
    return true;
  }

  int depth_ = 0;
  bool in_metadata_ = false;
  std::string name_, field_;
  std::set<std::string> names_, fields_;
  std::vector<std::uint64_t>* numbers_ = nullptr;
};

DType dtype_of(const Stated& stated) {
  const auto found = std::ranges::find(kNames, *stated.dtype);
  if (found == kNames.end())
    refuse("has dtype '", *stated.dtype, "' in '", stated.name, "', which is none of ours");
  return static_cast<DType>(found - kNames.begin());
}

/// The shape, once it is known to need exactly `bytes`.
Shape shape_of(const Stated& stated, DType dtype, std::uint64_t bytes) {
  if (stated.shape->size() > static_cast<std::size_t>(Shape::kMaxRank))
    refuse("has ", stated.shape->size(), " axes in '", stated.name, "'; ", Shape::kMaxRank,
           " are the most");
  const bool empty = std::ranges::count(*stated.shape, 0U) > 0;
  std::uint64_t needed = empty ? 0 : size_of(dtype);
  std::vector<std::int64_t> extents;
  for (const std::uint64_t extent : *stated.shape) {
    if (extent > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) ||
        (extent > 0 && needed > bytes / extent))
      refuse("has a shape in '", stated.name, "' that needs more than its ", bytes, " bytes");
    needed *= extent;
    extents.push_back(static_cast<std::int64_t>(extent));
  }
  if (needed != bytes)
    refuse("has ", bytes, " bytes for '", stated.name, "' but its shape needs ", needed);
  return Shape(std::span<const std::int64_t>(extents));
}

HeaderArray believed(const Stated& stated, std::uint64_t data_bytes) {
  if (!stated.dtype || !stated.shape || !stated.offsets)
    refuse("lacks dtype, shape or data_offsets in '", stated.name, "'");
  if (stated.offsets->size() != 2)
    refuse("has ", stated.offsets->size(), " data_offsets in '", stated.name, "', not 2");
  const std::uint64_t begin = (*stated.offsets)[0], end = (*stated.offsets)[1];
  if (begin > end || end > data_bytes) {
    refuse("has data_offsets ", begin, ", ", end, " in '", stated.name, "' but only ", data_bytes,
           " bytes behind its header");
  }
  const DType dtype = dtype_of(stated);
  return {stated.name, dtype, shape_of(stated, dtype, end - begin), begin, end};
}

/// Every byte belongs to one array.
void check_cover(const std::vector<HeaderArray>& arrays, std::uint64_t data_bytes) {
  std::vector<const HeaderArray*> ordered;
  for (const HeaderArray& array : arrays) ordered.push_back(&array);
  std::ranges::sort(ordered, {}, [](const HeaderArray* a) { return std::pair(a->begin, a->end); });
  std::uint64_t covered = 0;
  for (const HeaderArray* array : ordered) {
    if (array->begin != covered) {
      refuse("has a ", array->begin < covered ? "byte of two arrays" : "gap", " before '",
             array->name, "'");
    }
    covered = array->end;
  }
  if (covered != data_bytes)
    refuse("has ", data_bytes - covered, " bytes at its end that belong to no array");
}

SafetensorsHeader read(std::istream& file, std::uint64_t file_bytes) {
  if (file_bytes < 8) refuse("has ", file_bytes, " bytes, too few for a header");
  std::array<unsigned char, 8> prefix{};
  file.read(reinterpret_cast<char*>(prefix.data()), 8);
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8U | prefix[i];
  if (length > kMostHeaderBytes)
    refuse("states a header of ", length, " bytes; ", kMostHeaderBytes, " are the most");
  if (length > file_bytes - 8)
    refuse("states a header of ", length, " bytes but has only ", file_bytes - 8, " more");
  std::string json(static_cast<std::size_t>(length), '\0');
  file.read(json.data(), static_cast<std::streamsize>(length));
  if (!file) refuse("could not be read to the end of its header");

  if (json.find('\0') != std::string::npos)  // which the parser would take for the end
    refuse("has a header that is not JSON: there is a zero byte in it");

  Handler handler;
  nlohmann::json::sax_parse(json, &handler);
  SafetensorsHeader header{{}, std::move(handler.metadata), static_cast<std::size_t>(8 + length)};
  const std::uint64_t data_bytes = file_bytes - header.data_begin;
  for (const Stated& stated : handler.arrays) header.arrays.push_back(believed(stated, data_bytes));
  check_cover(header.arrays, data_bytes);
  return header;
}

}  // namespace

std::string safetensors_name(DType dtype) { return kNames[static_cast<std::size_t>(dtype)]; }

SafetensorsHeader read_safetensors_header(std::istream& file, const std::filesystem::path& path) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error || !file)
    throw FileError(text("safetensors: '", path.string(), "' cannot be read (",
                         error ? error.message() : "no access", "); name a file that exists"));
  try {
    return read(file, bytes);
  } catch (const Wrong& wrong) {
    throw FileError(text("safetensors: '", path.string(), "' ", wrong.what(),
                         "; it is damaged or of another format, write it again"));
  }
}

}  // namespace poolgrad::interop
