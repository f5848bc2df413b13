// MNIST's four files, and what makes a data set sound.
#include "train/dataset.h"

#include "engine/error.h"
#include "train/idx.h"

namespace poolgrad::train {
namespace {

namespace fs = std::filesystem;

std::int64_t label_at(const ArrayView& labels, std::size_t i) {
  switch (labels.dtype) {
    case DType::u8:
      return static_cast<const std::uint8_t*>(labels.data)[i];
    case DType::i32:
      return static_cast<const std::int32_t*>(labels.data)[i];
    default:
      return static_cast<const std::int64_t*>(labels.data)[i];
  }
}

/// The row of the first label outside [0, classes), or -1.
std::int64_t first_bad_label(const Dataset& data) {
  for (std::int64_t i = 0; i < data.count(); ++i) {
    const std::int64_t label = label_at(data.labels, static_cast<std::size_t>(i));
    if (label < 0 || label >= data.classes) return i;
  }
  return -1;
}

fs::path find_file(const fs::path& folder, const std::string& name) {
  for (const fs::path& path : {folder / (name + ".gz"), folder / name}) {
    if (fs::exists(path)) return path;
  }
  throw FileError(text("data: '", folder.string(), "' has no ", name,
                       ".gz; install Debian's dataset-fashion-mnist (apt-get install "
                       "dataset-fashion-mnist), or name the folder of your IDX files"));
}

Dataset read_pair(const fs::path& folder, const std::string& prefix) {
  const fs::path images = find_file(folder, prefix + "-images-idx3-ubyte");
  const fs::path labels = find_file(folder, prefix + "-labels-idx1-ubyte");
  Dataset data{read_idx(images, 3), read_idx(labels, 1)};
  if (data.samples.shape[0] != data.labels.shape[0]) {
    throw FileError(text("data: '", images.string(), "' has ", data.samples.shape[0],
                         " images but '", labels.string(), "' has ", data.labels.shape[0],
                         " labels; fetch both again from one place"));
  }
  if (const std::int64_t bad = first_bad_label(data); bad >= 0) {
    throw FileError(text("data: '", labels.string(), "' has label ",
                         label_at(data.labels, static_cast<std::size_t>(bad)), " at image ", bad,
                         ", outside 0 to ", data.classes - 1, "; fetch it again"));
  }
  return data;
}

}  // namespace

Shape Dataset::sample_shape() const {
  const auto extents = samples.shape.extents().subspan(1);
  if (extents.size() != 2) return Shape(extents);
  return {1, extents[0], extents[1]};
}

void check(const Dataset& data, std::string_view name) {
  const Shape &samples = data.samples.shape, &labels = data.labels.shape;
  if (samples.rank() < 2 || labels.rank() != 1 || samples[0] != labels[0] || labels[0] < 1) {
    throw ShapeError(text(name, ": samples ", samples, " and labels ", labels,
                          "; they must be [n, ...] and [n] with the same n above 0"));
  }
  if (!data.samples.row_major() || !data.labels.row_major())
    throw ShapeError(text(name, ": samples or labels are not dense in row-major order; copy them"));
  const DType sample = data.samples.dtype, label = data.labels.dtype;
  if (sample != DType::u8 && sample != DType::f32)
    throw ArgumentError(text(name, ": samples are ", sample, "; make them uint8 or float32"));
  if (label != DType::u8 && label != DType::i32 && label != DType::i64)
    throw ArgumentError(text(name, ": labels are ", label, "; make them uint8, int32 or int64"));
  if (const std::int64_t bad = first_bad_label(data); bad >= 0) {
    throw ArgumentError(text(name, ": label ", label_at(data.labels, static_cast<std::size_t>(bad)),
                             " at sample ", bad, " is outside 0 to ", data.classes - 1));
  }
}

Split read_mnist(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    throw FileError(text("data: no folder '", folder.string(),
                         "'; install Debian's dataset-fashion-mnist (apt-get install "
                         "dataset-fashion-mnist), or name the folder of your IDX files"));
  }
  Split split{read_pair(folder, "train"), read_pair(folder, "t10k")};
  if (split.train.sample_shape() != split.test.sample_shape()) {
    throw FileError(text("data: '", folder.string(), "' has images ", split.train.sample_shape(),
                         " to train on but ", split.test.sample_shape(),
                         " to test on; fetch all four files again from one place"));
  }
  return split;
}

}  // namespace poolgrad::train
