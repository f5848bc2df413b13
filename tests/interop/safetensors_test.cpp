// Weights files: what is written is read, and what nobody should trust is refused.
#include "interop/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <numeric>
#include <optional>

#include <doctest/doctest.h>
#include <unistd.h>

#include "engine/error.h"

namespace poolgrad::interop {
namespace {

namespace fs = std::filesystem;

struct File {
  fs::path path =
      fs::temp_directory_path() / ("poolgrad_" + std::to_string(getpid()) + ".safetensors");
  ~File() { fs::remove(path); }

  /// A file as an attacker may write it: any header, any number of bytes behind it.
  void put(const std::string& header, std::size_t data_bytes = 0,
           std::optional<std::uint64_t> length = {}) const {
    std::ofstream out(path, std::ios::binary);
    const std::uint64_t stated = length.value_or(header.size());
    for (unsigned i = 0; i < 8; ++i) out.put(static_cast<char>(stated >> (8 * i)));
    out << header << std::string(data_bytes, '\1');
  }
  [[nodiscard]] std::string error() const {
    try {
      (void)read_safetensors(path);
      return "";
    } catch (const FileError& error) {
      return error.what();
    }
  }
};

std::vector<float> count_up(std::size_t n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), 0.5F);
  return values;
}

ArrayView view(std::vector<float>& values, const Shape& shape) {
  return ArrayView::of(std::span(values), shape, DType::f32);
}

TEST_CASE("safetensors: what is written is read again, with names, shapes, dtypes and metadata") {
  const File file;
  std::vector<float> weight = count_up(32 * 3), bias = count_up(3), scalar{7.0F};
  std::vector<std::int64_t> step{41};
  const std::vector<NamedArray> arrays{{"bias", view(bias, {3})},
                                       {"", view(scalar, {})},
                                       {"weight \"ä\"", view(weight, {32, 3})},
                                       {"step", ArrayView::of(std::span(step), {1}, DType::i64)}};
  write_safetensors(file.path, arrays, {{"format", "pt"}});

  const Safetensors read = read_safetensors(file.path);
  CHECK(read.metadata == Metadata{{"format", "pt"}});
  REQUIRE(read.arrays.size() == 4);
  for (const NamedArray& named : arrays) {
    CAPTURE(named.name);
    const ArrayView& array = named.array;
    const auto found = std::ranges::find(read.arrays, named.name, &NamedArray::name);
    REQUIRE(found != read.arrays.end());
    CHECK(found->array.shape == array.shape);
    CHECK(found->array.dtype == array.dtype);
    CHECK(std::memcmp(found->array.data, array.data, array.bytes()) == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(found->array.data) % 64 == 0);
  }
}

TEST_CASE("safetensors: a look at the header gives all but the bytes") {
  const File file;
  std::vector<float> weight = count_up(32 * 3), bias = count_up(3);
  write_safetensors(file.path,
                    std::vector<NamedArray>{{"b", view(bias, {3})}, {"w", view(weight, {32, 3})}},
                    {{"a", "1"}});
  const Safetensors seen = inspect_safetensors(file.path), read = read_safetensors(file.path);
  CHECK(seen.metadata == read.metadata);
  REQUIRE(seen.arrays.size() == read.arrays.size());
  for (std::size_t i = 0; i < seen.arrays.size(); ++i) {
    CHECK(seen.arrays[i].name == read.arrays[i].name);
    CHECK(seen.arrays[i].array.shape == read.arrays[i].array.shape);
    CHECK(seen.arrays[i].array.dtype == read.arrays[i].array.dtype);
    CHECK(seen.arrays[i].array.data == nullptr);
  }
  file.put("{}", 3);
  CHECK_THROWS_AS((void)inspect_safetensors(file.path), FileError);
}

/// Bytes of the file that `path` names.
std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST_CASE("safetensors: whatever bit of a file flips, it is refused or nothing changed") {
  const File file;
  std::vector<float> weight = count_up(6), bias = count_up(3);
  const Metadata metadata{{"steps", "41"}};
  write_safetensors(file.path,
                    std::vector<NamedArray>{{"w", view(weight, {2, 3})}, {"b", view(bias, {3})}},
                    metadata);
  const std::string whole = bytes_of(file.path);
  int refused = 0;
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    CAPTURE(bit);
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
    std::ofstream(file.path, std::ios::binary) << flipped;
    try {
      const Safetensors read = read_safetensors(file.path);
      CHECK(read.metadata.at("steps") == "41");
      REQUIRE(read.arrays.size() == 2);
      CHECK(std::memcmp(read.arrays[1].array.data, bias.data(), sizeof(float) * 3) == 0);
      CHECK(std::memcmp(read.arrays[0].array.data, weight.data(), sizeof(float) * 6) == 0);
    } catch (const FileError&) {
      ++refused;
    }
  }
  CHECK(refused > 7 * static_cast<int>(whole.size()));
}

TEST_CASE("safetensors: the error of a wrong checksum says what to do") {
  const File file;
  std::vector<float> x = count_up(4);
  write_safetensors(file.path, std::vector<NamedArray>{{"x", view(x, {4})}});
  std::string bytes = bytes_of(file.path);
  bytes.back() ^= 1;
  std::ofstream(file.path, std::ios::binary) << bytes;
  CHECK(
      file.error().ends_with("; it is damaged, or was changed by hand: then take poolgrad.crc32 "
                             "out of its metadata"));
}

TEST_CASE("safetensors: arrays of whole cache lines begin on 64 bytes in the file") {
  const File file;
  std::vector<float> odd = count_up(5), even = count_up(16), large = count_up(64);
  write_safetensors(file.path, std::vector<NamedArray>{{"odd", view(odd, {5})},
                                                       {"even", view(even, {16})},
                                                       {"large", view(large, {8, 8})}});
  const std::string bytes = bytes_of(file.path);
  const auto length =
      static_cast<unsigned char>(bytes[0]) + 256U * static_cast<unsigned char>(bytes[1]);
  CHECK((8 + length) % 64 == 0);
  const std::string header = bytes.substr(8, length);
  CHECK(header.find(R"("even":{"dtype":"F32","shape":[16],"data_offsets":[0,64]})") !=
        std::string::npos);
  CHECK(header.find(R"("odd":{"dtype":"F32","shape":[5],"data_offsets":[320,340]})") !=
        std::string::npos);
  CHECK(bytes.size() == 8 + length + 340);
}

TEST_CASE("safetensors: a transposed array is written by its values, not by its bytes") {
  const File file;
  std::vector<float> values = count_up(6);
  ArrayView transposed = view(values, {3, 2});
  transposed.strides = {1, 3};
  write_safetensors(file.path, std::vector<NamedArray>{{"x", transposed}});
  const Safetensors read = read_safetensors(file.path);
  const std::span<float> x = read.arrays[0].array.as<float>();
  CHECK(std::vector(x.begin(), x.end()) == std::vector{0.5F, 3.5F, 1.5F, 4.5F, 2.5F, 5.5F});
}

TEST_CASE("safetensors: no arrays, and arrays without elements") {
  const File file;
  write_safetensors(file.path, {});
  CHECK(read_safetensors(file.path).arrays.empty());
  file.put(
      R"(  {"a":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0],"more":[{"x":[1.5,-1]}]}}  )");
  CHECK(read_safetensors(file.path).arrays[0].array.shape == Shape{0, 4});
}

TEST_CASE("safetensors: names that cannot be told apart are refused, and nothing is written") {
  const File file;
  std::vector<float> x = count_up(1);
  CHECK_THROWS_AS(write_safetensors(
                      file.path, std::vector<NamedArray>{{"a", view(x, {1})}, {"a", view(x, {1})}}),
                  ArgumentError);
  CHECK_THROWS_AS(
      write_safetensors(file.path, std::vector<NamedArray>{{"__metadata__", view(x, {1})}}),
      ArgumentError);
  CHECK_THROWS_AS(write_safetensors(file.path, std::vector<NamedArray>{{"\xff", view(x, {1})}}),
                  ArgumentError);
  CHECK_FALSE(fs::exists(file.path));
}

TEST_CASE("safetensors: every way a header can lie is an error that names the file") {
  const File file;
  const auto array = [](const std::string& fields) { return R"({"a":{)" + fields + "}}"; };
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  file.put(array(good), 8);
  REQUIRE(file.error().empty());

  struct Case {
    std::string header, complaint;
    std::size_t data_bytes = 8;
    std::optional<std::uint64_t> length{};
  };
  const std::vector<Case> cases{
      {"", "header that is not JSON"},
      {"[]", "an array, not an object"},
      {"3", "a number, not an object"},
      {R"({"a":3})", "has a number for 'a'"},
      {array(good), "states a header of 100000001", 8, 100'000'001},
      {array(good), "more", 8, 1'000'000},
      {array(good) + std::string(3, '\0'), "header that is not JSON"},
      {array(good) + "{}", "header that is not JSON"},
      {array(R"("dtype":"F32","shape":[2],"data_offsets":[1,9])"), "gap", 9},
      {array(good), "1 bytes at its end", 9},
      {array(good), "only 7 bytes behind", 7},
      {array(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), "data_offsets 8, 0"},
      {array(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), "needs more"},
      {array(R"("dtype":"F32","shape":[1],"data_offsets":[0,8])"), "its shape needs 4"},
      {array(R"("dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8])"),
       "needs more"},
      {array(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8])"), "needs more"},
      {array(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), "a negative number in 'shape'"},
      {array(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), "a fraction in 'shape'"},
      {array(R"("dtype":"F32","shape":[[2]],"data_offsets":[0,8])"), "an array in 'shape'"},
      {array(R"("dtype":"F32","shape":2,"data_offsets":[0,8])"), "a number in 'shape'"},
      {array(R"("dtype":"F32","shape":[1,1,1,1,1,1,2],"data_offsets":[0,8])"), "7 axes"},
      {array(R"("dtype":"F32","shape":[2],"data_offsets":[0,4,8])"), "3 data_offsets"},
      {array(R"("dtype":"F32","shape":[2])"), "lacks"},
      {array(R"("dtype":"I8","shape":[8],"data_offsets":[0,8])"), "dtype 'I8'"},
      {array(R"("dtype":4,"shape":[2],"data_offsets":[0,8])"), "a number in 'dtype'"},
      {array(good + R"(,"dtype":"F32")"), "'dtype' twice"},
      {R"({"a":{)" + good + R"(},"a":{)" + good + "}}", "name 'a' twice"},
      {R"({"a":{)" + good + R"(},"b":{)" + good + "}}", "byte of two arrays"},
      {R"({"__metadata__":{"x":1}})", "in its metadata", 0},
      {R"({"__metadata__":{"x":{"y":"z"}}})", "in its metadata", 0},
      {R"({"a":{"x":)" + std::string(200'000, '[') + "}}", "nested deeper"},
      {"{\"\xff\":{" + good + "}}", "header that is not JSON"},
  };
  for (const Case& bad : cases) {
    CAPTURE(bad.header.substr(0, 200));
    file.put(bad.header, bad.data_bytes, bad.length);
    const std::string error = file.error();
    CAPTURE(error);
    CHECK(error.starts_with("safetensors: '" + file.path.string() + "' "));
    CHECK(error.find(bad.complaint) != std::string::npos);
  }
  std::ofstream(file.path, std::ios::binary) << "1234567";
  CHECK(file.error().find("has 7 bytes") != std::string::npos);
  fs::remove(file.path);
  CHECK(file.error().find("cannot be read") != std::string::npos);
}

}  // namespace
}  // namespace poolgrad::interop
