// Bytes against something that is varied (batch, budget, step time), as curves in an SVG. The arena
// over time is timeline_svg.h.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace poolgrad {

struct Curve {
  struct Point {
    double x = 0.0;
    std::size_t bytes = 0;
  };
  std::string name;
  std::string colour;   // "#2f5d8a"
  bool dashed = false;  // of what is no memory that anyone takes: a bound, a limit
  std::vector<Point> points;
};

struct CurvePicture {
  std::string title, x_label;
  std::vector<Curve> curves;
  bool logarithmic = false;  // both axes, in powers of two
};

/// The picture as SVG text. Curves are named at their right ends; axes begin at 0 where they are
/// not logarithmic. Throws ArgumentError when there is no point, or one at or below 0 on a
/// logarithmic axis.
[[nodiscard]] std::string curves_svg(const CurvePicture& picture);

}  // namespace poolgrad
