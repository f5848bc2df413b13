// IDX files, good ones and every kind of bad one.
#include "train/idx.h"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <zlib.h>

#include "engine/error.h"
#include "tests/train/idx_files.h"

namespace poolgrad::train {
namespace {

using testing::Folder;
using testing::idx;

std::string error_of(const std::filesystem::path& path, int rank) {
  try {
    (void)read_idx(path, rank);
    return "";
  } catch (const FileError& error) {
    return error.what();
  }
}

TEST_CASE("idx: plain and gzipped files give the same array") {
  const Folder folder;
  const std::string bytes = idx({2, 2, 3}, "abcdefghijkl");
  for (const auto& path : {folder.put("x", bytes), folder.put_gz("x.gz", bytes),
                           folder.put_gz("zipped_without_suffix", bytes)}) {
    const ArrayView view = read_idx(path, 3);
    CHECK(view.shape == Shape{2, 2, 3});
    CHECK(view.dtype == DType::u8);
    CHECK(view.row_major());
    CHECK(std::string(static_cast<const char*>(view.data), 12) == "abcdefghijkl");
  }
}

TEST_CASE("idx: every bad file is an error that names the file and what to do") {
  const Folder folder;
  const std::string good = idx({2, 3}, "abcdef");
  std::string zipped = folder.gz(good);
  const std::string cut = zipped.substr(0, zipped.size() - 9);
  std::string damaged = zipped;
  damaged[damaged.size() - 6] = static_cast<char>(damaged[damaged.size() - 6] ^ 1);  // the checksum

  struct Case {
    std::string name, bytes, complaint;
    int rank = 2;
  };
  const std::vector<Case> cases{
      {"empty", "", "is empty; fetch it again"},
      {"empty.gz", "", "is empty; fetch it again"},
      {"plain.gz", good, "is not a gzip file although its name ends in .gz"},
      {"short_header", good.substr(0, 7), "ends inside its header"},
      {"short_magic", good.substr(0, 3), "ends inside its header"},
      {"text",
       "\x7f"
       "ELF, not IDX",
       "is not an IDX file: it begins with the bytes 127, 69"},
      {"floats", idx({2, 3}, "abcdef", '\x0d'), "elements of IDX type 13, not 8"},
      {"labels", idx({6}, "abcdef"), "has 1 axes, not 2; name a file of images"},
      {"images", good, "has 2 axes, not 1; name a file of labels", 1},
      {"zero", idx({0, 3}, ""), "its shape is [0, 3], which is empty"},
      {"short", good.substr(0, good.size() - 1), "needs 6 bytes, but only 5 follow the header"},
      {"long", good + "g", "has bytes behind the 6 of its shape [2, 3]"},
      {"long.gz", folder.gz(good + "g"), "has bytes behind the 6 of its shape [2, 3]"},
      {"short.gz", folder.gz(good.substr(0, good.size() - 1)),
       "is truncated: shape [2, 3] needs 6 bytes, but only 5 follow the header"},
      {"cut.gz", cut, "is truncated: its gzip data ends too early"},
      {"damaged.gz", damaged, "cannot be unzipped"},
      {"huge", idx({0xffffffffLL, 0xffffffffLL}, "abc"), "more than a file of its size can hold"},
      {"huge.gz", folder.gz(idx({0xffffffffLL, 0xffffffffLL}, "abc")),
       "more than a file of its size can hold"},
  };
  for (const Case& bad : cases) {
    const auto path = folder.put(bad.name, bad.bytes);
    const std::string error = error_of(path, bad.rank);
    CAPTURE(error);
    CHECK(error.starts_with("idx: '" + path.string() + "' "));
    CHECK(error.find(bad.complaint) != std::string::npos);
    CHECK(error.find(';') != std::string::npos);  // what to do
  }
  CHECK(error_of(folder.path / "none", 1).ends_with("' no such file; name one that exists"));
  CHECK(error_of(folder.path, 1).find("is not a file") != std::string::npos);
}

}  // namespace
}  // namespace poolgrad::train
