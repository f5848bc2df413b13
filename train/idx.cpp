// Reads IDX through zlib, which passes plain files through. Nothing a header says is trusted before
// it is held against the size of the file.
#include "train/idx.h"

#include <array>
#include <cstring>
#include <vector>

#include <zlib.h>

#include "engine/error.h"

namespace poolgrad::train {
namespace {

namespace fs = std::filesystem;

struct Close {
  void operator()(gzFile file) const { gzclose(file); }
};

class Reader {
 public:
  explicit Reader(const fs::path& path) : path_(path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) fail("no such file; name one that exists");
    if (!fs::is_regular_file(status)) fail("is not a file; name one");
    file_bytes_ = fs::file_size(path, error);
    if (error) fail("cannot be read (", error.message(), "); make it readable");
    if (file_bytes_ == 0) fail("is empty; fetch it again");
    file_.reset(gzopen(path.c_str(), "rb"));
    if (file_ == nullptr) fail("cannot be read (", std::strerror(errno), "); make it readable");
    gzbuffer(file_.get(), 1U << 17U);
    zipped_ = gzdirect(file_.get()) == 0;
    if (path.extension() == ".gz" && !zipped_)
      fail("is not a gzip file although its name ends in .gz; fetch it again, or rename it");
  }

  /// As many bytes as are there, at most `bytes`.
  std::size_t read(void* to, std::size_t bytes) {
    std::size_t done = 0;
    while (done < bytes) {
      const auto piece = static_cast<unsigned>(std::min<std::size_t>(bytes - done, 1U << 30U));
      const int got = gzread(file_.get(), static_cast<char*>(to) + done, piece);
      if (got < 0) fail_unzipping();
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  /// Whether the end is where it should be, checksums included.
  [[nodiscard]] bool at_end() {
    char more = 0;
    if (read(&more, 1) != 0) return false;
    int status = Z_OK;
    gzerror(file_.get(), &status);
    if (status != Z_OK) fail_unzipping();
    return true;
  }

  /// How many bytes the file can hold at the most: deflate makes 1032 of one.
  [[nodiscard]] std::uintmax_t most_bytes() const {
    return zipped_ ? file_bytes_ * 1032 : file_bytes_;
  }

  template <typename... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw FileError(text("idx: '", path_.string(), "' ", parts...));
  }

 private:
  [[noreturn]] void fail_unzipping() const {
    int status = Z_OK;
    const char* message = gzerror(file_.get(), &status);
    if (status == Z_BUF_ERROR) fail("is truncated: its gzip data ends too early; fetch it again");
    fail("cannot be unzipped (", status == Z_ERRNO ? std::strerror(errno) : message,
         "); fetch it again");
  }

  fs::path path_;
  std::uintmax_t file_bytes_ = 0;
  std::unique_ptr<gzFile_s, Close> file_;
  bool zipped_ = false;
};

template <std::size_t kBytes>
std::array<unsigned char, kBytes> read_field(Reader& in) {
  std::array<unsigned char, kBytes> bytes{};
  if (in.read(bytes.data(), kBytes) < kBytes)
    in.fail("is truncated: it ends inside its header; fetch it again");
  return bytes;
}

/// The magic number (0, 0, type, number of axes), then the extents, big-endian.
Shape read_header(Reader& in, int rank) {
  const auto magic = read_field<4>(in);
  if (magic[0] != 0 || magic[1] != 0)
    in.fail("is not an IDX file: it begins with the bytes ", int{magic[0]}, ", ", int{magic[1]},
            ", not 0, 0; name an IDX file");
  if (magic[2] != 0x08)
    in.fail("has elements of IDX type ", int{magic[2]}, ", not 8 (unsigned bytes); convert it");
  if (magic[3] != rank)
    in.fail("has ", int{magic[3]}, " axes, not ", rank,
            rank == 1 ? "; name a file of labels" : "; name a file of images");
  std::array<std::int64_t, Shape::kMaxRank> extents{};
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(rank); ++axis) {
    for (const unsigned char byte : read_field<4>(in)) extents[axis] = extents[axis] * 256 + byte;
  }
  return Shape(std::span(extents.data(), static_cast<std::size_t>(rank)));
}

/// The product of the extents, once it is known to fit into the file.
std::size_t checked_count(const Reader& in, const Shape& shape) {
  std::uintmax_t count = 1;
  for (const std::int64_t extent : shape.extents()) {
    if (extent == 0) in.fail("says that its shape is ", shape, ", which is empty; fetch it again");
    if (count > in.most_bytes() / static_cast<std::uintmax_t>(extent))
      in.fail("says that its shape is ", shape,
              ", more than a file of its size can hold; "
              "it is truncated or damaged, fetch it again");
    count *= static_cast<std::uintmax_t>(extent);
  }
  return static_cast<std::size_t>(count);
}

}  // namespace

ArrayView read_idx(const fs::path& path, int rank) {
  Reader in(path);
  const Shape shape = read_header(in, rank);
  const std::size_t count = checked_count(in, shape);
  auto bytes = std::make_shared<std::vector<std::uint8_t>>(count);
  const std::size_t got = in.read(bytes->data(), count);
  if (got < count)
    in.fail("is truncated: shape ", shape, " needs ", count, " bytes, but only ", got,
            " follow the header; fetch it again");
  if (!in.at_end())
    in.fail("has bytes behind the ", count, " of its shape ", shape, "; fetch it again");
  ArrayView view = ArrayView::of(std::span(*bytes), shape, DType::u8);
  view.owner = std::move(bytes);
  return view;
}

}  // namespace poolgrad::train
