// Curves: all points inside the picture, names that do not overlap, errors for what has no place.
#include "engine/curves_svg.h"

#include <doctest/doctest.h>

#include "engine/error.h"

namespace poolgrad {
namespace {

CurvePicture picture(bool logarithmic) {
  return {.title = "a < b",
          .x_label = "batch",
          .curves = {{"sum", "#d1495b", false, {{1, 4096}, {2, 8192}, {64, 1 << 20}}},
                     {"bound", "#111", true, {{1, 4096}, {64, 1 << 20}}}},
          .logarithmic = logarithmic};
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t result = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at) ++result;
  return result;
}

TEST_CASE("curves: each curve is a line with its name, points marked unless it is dashed") {
  for (const bool logarithmic : {false, true}) {
    const std::string svg = curves_svg(picture(logarithmic));
    CHECK(svg.starts_with("<svg xmlns="));
    CHECK(svg.ends_with("</svg>\n"));
    CHECK(svg.find("a &lt; b") != std::string::npos);
    CHECK(count(svg, "<circle") == 3);
    CHECK(count(svg, ">sum</text>") == 1);
    CHECK(count(svg, ">bound</text>") == 1);
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(svg.find("inf") == std::string::npos);
  }
}

TEST_CASE("curves: one point alone is drawn") {
  const std::string svg = curves_svg({"t", "x", {{"a", "#111", false, {{5, 100}}}}, true});
  CHECK(count(svg, "<circle") == 1);
  CHECK(svg.find("nan") == std::string::npos);
}

TEST_CASE("curves: no points, and points that a logarithm has no place for, are refused") {
  CHECK_THROWS_AS((void)curves_svg({"t", "x", {}, false}), ArgumentError);
  CHECK_NOTHROW((void)curves_svg(
      {"t", "x", {{"none", "#111", false, {}}, {"a", "#222", false, {{1, 100}}}}, true}));
  CHECK_THROWS_AS((void)curves_svg({"t", "x", {{"a", "#111", false, {{0, 100}}}}, true}),
                  ArgumentError);
  CHECK_NOTHROW((void)curves_svg({"t", "x", {{"a", "#111", false, {{0, 0}}}}, false}));
}

}  // namespace
}  // namespace poolgrad
