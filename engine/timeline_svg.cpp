// Draws report.h's rows. Plain text output: no library.
#include "engine/timeline_svg.h"

#include <algorithm>
#include <array>
#include <iomanip>

#include "engine/report.h"
#include "engine/svg.h"

namespace poolgrad {
namespace {

constexpr double kWidth = 900, kHeight = 480;
constexpr double kLeft = 76, kRight = 886, kTop = 64, kBottom = 400;  // the plot
constexpr std::size_t kMostTitles = 400;  // above, tooltips would make the file heavy

/// By Role. Told apart by lightness too, for those who see few colours.
constexpr std::array<const char*, 7> kColours{"#2f5d8a", "#8fb8de", "#5a9e5f", "#d1495b",
                                              "#f2a33a", "#9a77b5", "#b9b4ad"};

std::string colour(Role role) { return kColours[static_cast<std::size_t>(role)]; }

class Picture {
 public:
  Picture(const Blueprint& blueprint, std::string_view name)
      : blueprint_(blueprint),
        entry_(blueprint.entry(name)),
        rows_(report(blueprint, name)),
        top_(std::max<std::size_t>(blueprint.persistent_bytes + entry_.plan.arena_bytes, 1)) {
    // Persistent bytes never move: where they would squeeze the rest they are drawn to a smaller
    // scale.
    const double share =
        static_cast<double>(blueprint.persistent_bytes) / static_cast<double>(top_);
    persistent_share_ = entry_.plan.arena_bytes == 0 ? 1.0 : std::clamp(share, 0.0, 0.4);
    squeezed_ = persistent_share_ < share;
    out_ << std::fixed << std::setprecision(1);
  }

  std::string draw() {
    begin();
    axes();
    slots();
    persistent_labels();
    bound();
    witness();
    legend();
    out_ << "</svg>\n";
    return out_.str();
  }

 private:
  [[nodiscard]] double x(double step) const {
    const double steps = std::max<double>(1.0, static_cast<double>(entry_.steps.size()));
    return kLeft + (kRight - kLeft) * step / steps;
  }
  [[nodiscard]] double y(std::size_t byte) const {
    const auto persistent = static_cast<double>(blueprint_.persistent_bytes);
    const auto at = static_cast<double>(byte);
    const double edge = kBottom - (kBottom - kTop) * persistent_share_;
    if (at <= persistent)
      return persistent == 0 ? kBottom : kBottom - (kBottom - edge) * at / persistent;
    return edge - (edge - kTop) * (at - persistent) / (static_cast<double>(top_) - persistent);
  }

  void put_text(double at_x, double at_y, const std::string& what, const char* more = "") {
    out_ << "<text x=\"" << at_x << "\" y=\"" << at_y << "\" " << more << ">" << svg_text(what)
         << "</text>\n";
  }

  void begin() {
    out_ << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << kWidth << " " << kHeight
         << "\" width=\"" << kWidth << "\" height=\"" << kHeight
         << "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#222\">\n"
         << "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";
    put_text(kLeft, 22,
             text("The arena over one run of '", entry_.name,
                  "': ", human_bytes(blueprint_.persistent_bytes + entry_.plan.arena_bytes),
                  " instead of ", human_bytes(blueprint_.persistent_bytes + entry_.sum_bytes),
                  " without reuse"),
             "font-size=\"15\" font-weight=\"bold\"");
  }

  void axes() {
    const std::size_t persistent = blueprint_.persistent_bytes;
    std::vector<std::size_t> ticks{0, persistent};
    for (int i = 1; i <= 4; ++i)
      ticks.push_back(persistent + (top_ - persistent) * static_cast<std::size_t>(i) / 4);
    double last = kBottom + 100;
    for (const std::size_t tick : ticks) {
      if (last - y(tick) < 13) continue;
      last = y(tick);
      out_ << "<path d=\"M" << kLeft << " " << last << "H" << kRight << "\" stroke=\"#e4e4e4\"/>\n";
      put_text(kLeft - 6, last + 4, human_bytes(tick), "text-anchor=\"end\"");
    }
    const std::size_t steps = entry_.steps.size();
    const std::size_t stride = std::max<std::size_t>(1, (steps + 9) / 10);
    for (std::size_t step = 0; step < steps; step += stride)
      put_text(x(static_cast<double>(step)), kBottom + 16, text(step));
    put_text(kRight, kBottom + 32, "step of the program, in the order of its nodes",
             "text-anchor=\"end\" fill=\"#666\"");
    if (squeezed_)
      put_text(kLeft, kBottom + 32, "persistent part drawn to a smaller scale", "fill=\"#666\"");
  }

  void slots() {
    const bool titles = rows_.size() <= kMostTitles;
    for (const ReportRow& row : rows_) {
      const double left = x(row.first), upper = y(row.offset + row.bytes);
      out_ << "<rect x=\"" << left << "\" y=\"" << upper << "\" width=\"" << x(row.end) - left
           << "\" height=\"" << y(row.offset) - upper << "\" fill=\"" << colour(row.role) << "\"";
      // A seam between neighbours, where both are thick enough to spare it.
      if (y(row.offset) - upper > 3 && x(row.end) - left > 3)
        out_ << " stroke=\"#fff\" stroke-width=\".6\"";
      if (titles) {
        out_ << "><title>" << svg_text(row.name)
             << (row.layer.empty() ? "" : ", layer " + svg_text(row.layer)) << ", "
             << to_string(row.role) << ", " << human_bytes(row.bytes);
        if (!row.persistent) out_ << ", steps " << row.first << " to " << row.end - 1;
        out_ << "</title></rect>\n";
      } else {
        out_ << "/>\n";
      }
    }
  }

  /// Bands are contiguous in role: one label for each that has room for it.
  void persistent_labels() {
    for (std::size_t i = 0; i < rows_.size() && rows_[i].persistent;) {
      std::size_t end = i, bytes = 0;
      for (; end < rows_.size() && rows_[end].persistent && rows_[end].role == rows_[i].role; ++end)
        bytes += rows_[end].bytes;
      const double lower = y(rows_[i].offset), upper = y(rows_[i].offset + bytes);
      if (lower - upper > 15) {  // low in the band: two moments have a seam in the middle
        const bool dark = rows_[i].role != Role::moment && rows_[i].role != Role::other;
        put_text(kLeft + 8, (3 * lower + upper) / 4 + 4,
                 text(to_string(rows_[i].role), "s, ", human_bytes(bytes)),
                 dark ? "fill=\"#fff\"" : "");
      }
      i = end;
    }
  }

  void bound() {
    const std::size_t bytes = blueprint_.persistent_bytes + entry_.plan.lower_bound_bytes;
    const bool reached = entry_.plan.optimal();
    out_ << "<path d=\"M" << kLeft << " " << y(bytes) << "H" << kRight
         << "\" stroke=\"#111\" stroke-width=\"1.5\" stroke-dasharray=\"6 4\"/>\n";
    put_text(kRight, kTop - 20,
             text("- - - lower bound ", human_bytes(bytes),
                  reached ? ": reached, no plan is smaller" : ": no plan is smaller than this"),
             "text-anchor=\"end\"");
  }

  void witness() {
    bool first = true;
    for (const memory::Witness::Step& mark : entry_.plan.witness.steps) {
      const auto step = std::ranges::find(entry_.steps, mark.step, &Step::node);
      if (step == entry_.steps.end()) continue;
      const double at = x(static_cast<double>(step - entry_.steps.begin()) + 0.5);
      out_ << "<path d=\"M" << at << " " << kTop - 2 << "V" << kBottom
           << "\" stroke=\"#111\" stroke-width=\"1\" stroke-dasharray=\"2 3\"/>\n"
           << "<path d=\"M" << at - 5 << " " << kTop - 8 << "h10l-5 7z\" fill=\"#111\"/>\n";
      if (first) {
        const Node& node = entry_.graph->nodes[static_cast<std::size_t>(mark.step)];
        put_text(kLeft, kTop - 20, text("\u25bc the fullest moment: ", node.op->name));
      }
      first = false;
    }
  }

  void legend() {
    std::array<bool, kColours.size()> present{};
    for (const ReportRow& row : rows_) present[static_cast<std::size_t>(row.role)] = true;
    double at = kLeft;
    for (std::size_t role = 0; role < kColours.size(); ++role) {
      if (!present[role]) continue;
      const std::string name = to_string(static_cast<Role>(role));
      out_ << "<rect x=\"" << at << "\" y=\"" << kHeight - 28
           << "\" width=\"12\" height=\"12\" fill=\"" << kColours[role] << "\"/>\n";
      put_text(at + 17, kHeight - 18, name);
      at += 42 + 6.6 * static_cast<double>(name.size());
    }
  }

  const Blueprint& blueprint_;
  const Entry& entry_;
  std::vector<ReportRow> rows_;
  std::size_t top_;
  double persistent_share_ = 0.0;
  bool squeezed_ = false;
  std::ostringstream out_;
};

}  // namespace

std::string timeline_svg(const Blueprint& blueprint, std::string_view entry) {
  return Picture(blueprint, entry).draw();
}

}  // namespace poolgrad
