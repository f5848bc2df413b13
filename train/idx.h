// IDX, the format of MNIST and its relatives, plain or gzipped. Unsigned bytes only; what the
// arrays mean is dataset.h.
#pragma once

#include <filesystem>

#include "engine/array.h"

namespace poolgrad::train {

/// The array of an IDX file, u8, dense, with `rank` axes; the view owns its bytes. A name that ends
/// in
/// ".gz" must be gzipped, any other may be.
///
/// Sizes are compared with what the file can hold before memory is taken for them. Throws
/// FileError, naming the file, for one that is missing, empty, no gzip file, no IDX file, of
/// another type or rank, and for bytes too few or too many.
[[nodiscard]] ArrayView read_idx(const std::filesystem::path& path, int rank);

}  // namespace poolgrad::train
