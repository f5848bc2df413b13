// Draws requests at their offsets. No text but a line of totals: titles name what one points at.
#include "cli/requests_svg.h"

#include <algorithm>
#include <sstream>

#include "engine/svg.h"

namespace poolgrad::cli {
namespace {

constexpr double kWidth = 1000, kHeight = 600, kTop = 24;

}  // namespace

std::string requests_svg(const memory::PlanFile& file, const memory::Plan& plan) {
  int first = 0, end = 1;
  for (bool any = false; const memory::Request& r : file.requests) {
    if (!memory::alive(r)) continue;
    first = any ? std::min(first, r.first) : r.first;
    end = any ? std::max(end, r.end) : r.end;
    any = true;
  }
  const double x = kWidth / std::max(1.0, static_cast<double>(end) - first);
  const double y = kHeight / static_cast<double>(std::max<std::size_t>(1, plan.arena_bytes));
  std::ostringstream out;
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << kWidth << ' '
      << kTop + kHeight
      << "\" font-family=\"sans-serif\" font-size=\"14\">\n<text x=\"0\" y=\"16\">"
      << file.requests.size() << " buffers in " << plan.arena_bytes << " bytes, lower bound "
      << plan.lower_bound_bytes << "</text>\n<g stroke=\"#fff\" stroke-width=\"0.5\">\n";
  for (std::size_t i = 0; i < file.requests.size(); ++i) {
    const memory::Request& r = file.requests[i];
    if (!memory::alive(r)) continue;
    const auto bytes = static_cast<double>(r.bytes), offset = static_cast<double>(plan.offsets[i]);
    out << "<rect x=\"" << (static_cast<double>(r.first) - first) * x << "\" y=\""
        << kTop + kHeight - (offset + bytes) * y << "\" width=\""
        << std::max(1.0, static_cast<double>(r.end) - r.first) * x << "\" height=\"" << bytes * y
        << "\" fill=\"hsl(" << i * 137 % 360 << ",50%,60%)\"><title>" << svg_text(file.ids[i])
        << ": " << r.bytes << " bytes at " << plan.offsets[i] << "</title></rect>\n";
  }
  const double bound = kTop + kHeight - static_cast<double>(plan.lower_bound_bytes) * y;
  out << "</g>\n<line x1=\"0\" x2=\"" << kWidth << "\" y1=\"" << bound << "\" y2=\"" << bound
      << "\" stroke=\"#000\" stroke-dasharray=\"6 4\"/>\n</svg>\n";
  return out.str();
}

}  // namespace poolgrad::cli
