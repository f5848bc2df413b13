// Data sets from folders, and what is refused.
#include "train/dataset.h"

#include <doctest/doctest.h>

#include "engine/error.h"
#include "tests/train/idx_files.h"

namespace poolgrad::train {
namespace {

using testing::Folder;
using testing::idx;

/// Four files of 3 and 2 images of 2 by 2.
struct Files : Folder {
  Files() {
    put("train-images-idx3-ubyte", idx({3, 2, 2}, "abcdefghijkl"));
    put("train-labels-idx1-ubyte", idx({3}, std::string("\0\5\x09", 3)));
    put_gz("t10k-images-idx3-ubyte.gz", idx({2, 2, 2}, "mnopqrst"));
    put_gz("t10k-labels-idx1-ubyte.gz", idx({2}, "\1\2"));
  }
  [[nodiscard]] std::string error() const {
    try {
      (void)read_mnist(path);
      return "";
    } catch (const FileError& error) {
      return error.what();
    }
  }
};

TEST_CASE("data: four files, zipped or not, make a split of images and labels") {
  const Files files;
  const Split split = read_mnist(files.path);
  CHECK(split.train.count() == 3);
  CHECK(split.test.count() == 2);
  CHECK(split.train.sample_shape() == Shape{1, 2, 2});
  CHECK(split.train.labels.as<std::uint8_t>()[2] == 9);
  CHECK(split.test.samples.as<std::uint8_t>()[4] == 'q');
}

TEST_CASE("data: what is missing or does not fit is named, with how to get it") {
  Files files;
  files.put("train-labels-idx1-ubyte", idx({2}, "\1\2"));
  CHECK(files.error() == text("data: '", (files.path / "train-images-idx3-ubyte").string(),
                              "' has 3 images but '",
                              (files.path / "train-labels-idx1-ubyte").string(),
                              "' has 2 labels; fetch both again from one place"));
  files.put("train-labels-idx1-ubyte", idx({3}, "\1\x0a\2"));
  CHECK(files.error() == text("data: '", (files.path / "train-labels-idx1-ubyte").string(),
                              "' has label 10 at image 1, outside 0 to 9; fetch it again"));
  std::filesystem::remove(files.path / "train-labels-idx1-ubyte");
  CHECK(files.error() == text("data: '", files.path.string(),
                              "' has no train-labels-idx1-ubyte.gz; install Debian's "
                              "dataset-fashion-mnist (apt-get install dataset-fashion-mnist), or "
                              "name the folder of your IDX files"));
  CHECK_THROWS_AS((void)read_mnist(files.path / "none"), FileError);
}

TEST_CASE("data: images of two sizes in one folder are refused") {
  const Files files;
  files.put_gz("t10k-images-idx3-ubyte.gz", idx({2, 2, 1}, "mnop"));
  CHECK(files.error().find("has images [1, 2, 2] to train on but [1, 2, 1] to test on") !=
        std::string::npos);
}

TEST_CASE("data: columns of a caller are checked before anything is trained on them") {
  std::vector<float> samples(12);
  std::vector<std::int32_t> labels{0, 1, 2};
  Dataset data{ArrayView::of(std::span(samples), {3, 4}, DType::f32),
               ArrayView::of(std::span(labels), {3}, DType::i32), 3};
  CHECK_NOTHROW(check(data, "data"));
  CHECK(data.sample_shape() == Shape{4});
  labels[1] = -1;
  CHECK_THROWS_WITH_AS(check(data, "data"), "data: label -1 at sample 1 is outside 0 to 2",
                       ArgumentError);
  labels[1] = 1;
  data.labels.shape[0] = 2;
  CHECK_THROWS_AS(check(data, "data"), ShapeError);
  data.labels.shape[0] = 3;
  data.samples.strides[0] = 5;
  CHECK_THROWS_AS(check(data, "data"), ShapeError);
  data.samples.strides[0] = 4;
  data.labels.dtype = DType::f32;
  CHECK_THROWS_AS(check(data, "data"), ArgumentError);
}

}  // namespace
}  // namespace poolgrad::train
