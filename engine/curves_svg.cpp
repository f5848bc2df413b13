// Draws curves over two axes. Plain text output: no library.
#include "engine/curves_svg.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <limits>

#include "engine/error.h"
#include "engine/report.h"
#include "engine/svg.h"

namespace poolgrad {
namespace {

constexpr double kWidth = 900, kHeight = 480;
constexpr double kLeft = 76, kRight = 760, kTop = 48,
                 kBottom = 416;  // the plot; names stand right of it
constexpr double kLineHeight = 15;

/// 1, 2 or 5 times a power of ten, so that about `count` steps make `range`.
double round_step(double range, int count) {
  const double rough = range / count;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10.0 * power;
}

/// From numbers to places between `from` and `to`.
class Axis {
 public:
  Axis(double low, double high, bool logarithmic, double from, double to)
      : logarithmic_(logarithmic), from_(from), to_(to) {
    low_ = logarithmic ? std::floor(std::log2(low)) : 0.0;
    high_ = logarithmic ? std::log2(high) : high;
    if (high_ <= low_) high_ = low_ + 1.0;
  }

  [[nodiscard]] double at(double value) const {
    const double v = logarithmic_ ? std::log2(value) : value;
    return from_ + (to_ - from_) * (v - low_) / (high_ - low_);
  }
  /// About `count` numbers worth a line; `unit` is what whole steps are counted in.
  [[nodiscard]] std::vector<double> ticks(int count, double unit) const {
    std::vector<double> result;
    if (logarithmic_) {
      const double stride = std::ceil((high_ - low_) / count);
      for (int i = 0; low_ + i * stride <= high_ + 1e-9; ++i)
        result.push_back(std::exp2(low_ + i * stride));
    } else {
      const double step = round_step(high_ / unit, count) * unit;
      for (int i = 0; i * step <= high_ * (1.0 + 1e-9); ++i) result.push_back(i * step);
    }
    return result;
  }

 private:
  bool logarithmic_;
  double from_, to_, low_ = 0.0, high_ = 1.0;
};

class Picture {
 public:
  explicit Picture(const CurvePicture& what)
      : what_(what),
        x_(least([](const auto& p) { return p.x; }), most([](const auto& p) { return p.x; }),
           what.logarithmic, kLeft, kRight),
        y_(least([](const auto& p) { return static_cast<double>(p.bytes); }),
           most([](const auto& p) { return static_cast<double>(p.bytes); }), what.logarithmic,
           kBottom, kTop) {
    out_ << std::fixed << std::setprecision(1);
  }

  std::string draw() {
    begin();
    axes();
    for (const Curve& curve : what_.curves) line(curve);
    names();
    out_ << "</svg>\n";
    return out_.str();
  }

 private:
  template <typename F>
  [[nodiscard]] double least(const F& value) const {
    double result = std::numeric_limits<double>::infinity();
    for (const Curve& curve : what_.curves)
      for (const Curve::Point& point : curve.points)
        result = std::min<double>(result, value(point));
    return result;
  }
  template <typename F>
  [[nodiscard]] double most(const F& value) const {
    double result = 0.0;
    for (const Curve& curve : what_.curves)
      for (const Curve::Point& point : curve.points)
        result = std::max<double>(result, value(point));
    return result;
  }

  void put_text(double at_x, double at_y, const std::string& what, const std::string& more = "") {
    out_ << "<text x=\"" << at_x << "\" y=\"" << at_y << "\"" << (more.empty() ? "" : " ") << more
         << ">" << svg_text(what) << "</text>\n";
  }

  void begin() {
    out_ << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << kWidth << " " << kHeight
         << "\" width=\"" << kWidth << "\" height=\"" << kHeight
         << "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#222\">\n"
         << "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";
    put_text(kLeft, 22, what_.title, "font-size=\"15\" font-weight=\"bold\"");
  }

  void axes() {
    const double largest = most([](const auto& p) { return static_cast<double>(p.bytes); });
    const double unit = std::exp2(10.0 * std::floor(std::log2(std::max(largest, 1.0)) / 10.0));
    for (const double bytes : y_.ticks(8, unit)) {
      out_ << "<path d=\"M" << kLeft << " " << y_.at(bytes) << "H" << kRight
           << "\" stroke=\"#e4e4e4\"/>\n";
      put_text(kLeft - 6, y_.at(bytes) + 4, human_bytes(static_cast<std::size_t>(bytes)),
               "text-anchor=\"end\"");
    }
    for (const double x : x_.ticks(12, 1.0)) {
      out_ << "<path d=\"M" << x_.at(x) << " " << kBottom << "v4\" stroke=\"#666\"/>\n";
      put_text(x_.at(x), kBottom + 18, text(x), "text-anchor=\"middle\"");
    }
    put_text(kRight, kBottom + 38, what_.x_label, "text-anchor=\"end\" fill=\"#666\"");
  }

  void line(const Curve& curve) {
    if (curve.points.empty()) return;
    const char* command = "M";
    out_ << "<path d=\"";
    for (const Curve::Point& point : curve.points) {
      out_ << command << x_.at(point.x) << " " << y_.at(static_cast<double>(point.bytes));
      command = "L";
    }
    out_ << "\" fill=\"none\" stroke=\"" << curve.colour << "\" stroke-width=\"2\""
         << (curve.dashed ? " stroke-dasharray=\"6 4\"" : "") << "/>\n";
    if (curve.dashed || curve.points.size() > 40) return;
    for (const Curve::Point& point : curve.points) {
      out_ << "<circle cx=\"" << x_.at(point.x) << "\" cy=\""
           << y_.at(static_cast<double>(point.bytes)) << "\" r=\"3\" fill=\"" << curve.colour
           << "\"><title>" << text(point.x) << ": " << human_bytes(point.bytes)
           << "</title></circle>\n";
    }
  }

  /// Beside the right ends, from the top down, pushed apart where they would overlap.
  void names() {
    std::vector<const Curve*> order;
    for (const Curve& curve : what_.curves) {
      if (!curve.points.empty()) order.push_back(&curve);
    }
    std::ranges::stable_sort(order, std::ranges::greater{},
                             [](const Curve* curve) { return curve->points.back().bytes; });
    double next = 0.0;
    for (const Curve* curve : order) {
      const double at =
          std::max(next, y_.at(static_cast<double>(curve->points.back().bytes)) + 4.0);
      put_text(kRight + 10, at, curve->name, "fill=\"" + curve->colour + "\"");
      next = at + kLineHeight;
    }
  }

  const CurvePicture& what_;
  Axis x_, y_;
  std::ostringstream out_;
};

void check(const CurvePicture& picture) {
  std::size_t points = 0;
  for (const Curve& curve : picture.curves) {
    for (const Curve::Point& point : curve.points) {
      ++points;
      if (picture.logarithmic && (point.x <= 0.0 || point.bytes == 0))
        throw ArgumentError(text("picture: '", curve.name, "' has a point at ", point.x, ", ",
                                 point.bytes, " bytes; logarithmic axes need more than 0"));
    }
  }
  if (points == 0) throw ArgumentError("picture: no points to draw; give at least one curve some");
}

}  // namespace

std::string curves_svg(const CurvePicture& picture) {
  check(picture);
  return Picture(picture).draw();
}

}  // namespace poolgrad
