// The errors users meet, and text(), which builds their messages. Each is one line: what, where,
// with which values; what to do.
#pragma once

#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace poolgrad {

/// text("matmul: left ", shape, " has ...") with anything that streams or has a to_string().
template <typename... Parts>
[[nodiscard]] std::string text(const Parts&... parts) {
  std::ostringstream out;
  const auto put = [&out](const auto& part) {
    if constexpr (requires { out << part; }) {
      out << part;
    } else {
      out << to_string(part);
    }
  };
  (put(parts), ...);
  return out.str();
}

/// Shapes, dtypes or graphs that do not fit, thrown while the graph is built. Python: ValueError.
struct ShapeError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// A setting or value outside its range, an unknown name. Python: ValueError.
struct ArgumentError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// A file that is missing, truncated, malformed or cannot be written. Python: OSError.
struct FileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Bytes that whoever was asked has not, or must not give. Python: MemoryError.
class MemoryError : public std::bad_alloc {
 public:
  explicit MemoryError(std::string what) : what_(std::move(what)) {}
  [[nodiscard]] const char* what() const noexcept override { return what_.c_str(); }

 private:
  std::string what_;
};

/// A tensor whose bytes cannot be lent out. Python: BufferError.
struct ExportError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A failed call into oneDNN or CUDA, or a kernel that this build lacks. Python: RuntimeError.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace poolgrad
