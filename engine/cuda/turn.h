// Turns matrices over by tiles in shared memory: both sides are read and written along their rows.
// For .cu files.
#pragma once

#include "engine/cuda/launch.h"

namespace poolgrad::cuda {

/// to [images, columns, rows] = from [images, rows, columns], by tiles of both.
template <typename Word>
struct Turn {
  static constexpr int kSide = sizeof(Word) < 4 ? 64 : 32, kTile = kSide * kSide;

  std::int64_t rows, columns, row_tiles, column_tiles;
  Divisor high, wide;  // a tile: where one side of the matrix is short, the other side is longer
  const Word* from;
  Word* to;

  Turn(std::int64_t all_rows, std::int64_t all_columns, const Word* source, Word* target)
      : rows(all_rows),
        columns(all_columns),
        high(columns < kSide ? std::min(rows, kTile / columns)
                             : std::min<std::int64_t>(rows, kSide)),
        wide(std::min(columns, kTile / high.by())),
        from(source),
        to(target) {
    row_tiles = (rows + high.by() - 1) / high.by();
    column_tiles = (columns + wide.by() - 1) / wide.by();
  }

  POOLGRAD_BOTH void operator()(std::int64_t i, const Group& group) const {
    POOLGRAD_SHARED Word tile[kTile + kTile / 2];
    const auto pitch = static_cast<int>(wide.by() | 1);  // odd: a column lies in all banks
    const std::int64_t image = i / (row_tiles * column_tiles) * rows * columns;
    const std::int64_t row = i / column_tiles % row_tiles * high.by();
    const std::int64_t column = i % column_tiles * wide.by();
    const auto area = static_cast<int>(high.by() * wide.by());
    group.each(area, [&](int at) {
      std::int64_t r = at;
      const std::int64_t c = split(r, wide);
      if (row + r < rows && column + c < columns)
        tile[r * pitch + c] = from[image + (row + r) * columns + column + c];
    });
    group.each(area, [&](int at) {
      std::int64_t c = at;
      const std::int64_t r = split(c, high);
      if (row + r < rows && column + c < columns)
        to[image + (column + c) * rows + row + r] = tile[r * pitch + c];
    });
  }
};

template <typename Word>
void turn_words(const Queue& queue, std::int64_t images, std::int64_t rows, std::int64_t columns,
                const void* from, void* to) {
  const Turn<Word> turn(rows, columns, static_cast<const Word*>(from), static_cast<Word*>(to));
  each_group(queue, images * turn.row_tiles * turn.column_tiles, turn);
}

/// Words of so many bytes: 1, 2, 4 or 8.
inline void turn_words(const Queue& queue, std::size_t bytes, std::int64_t images,
                       std::int64_t rows, std::int64_t columns, const void* from, void* to) {
  switch (bytes) {
    case 1:
      return turn_words<std::uint8_t>(queue, images, rows, columns, from, to);
    case 2:
      return turn_words<std::uint16_t>(queue, images, rows, columns, from, to);
    case 4:
      return turn_words<std::uint32_t>(queue, images, rows, columns, from, to);
    default:
      return turn_words<std::uint64_t>(queue, images, rows, columns, from, to);
  }
}

}  // namespace poolgrad::cuda
