// Reports as text: the short form and the tables. What is in them comes from report.cpp and
// peak.cpp.
#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <iterator>

#include "engine/peak.h"
#include "engine/report.h"

namespace poolgrad {
namespace {

std::string fixed(double value, int digits) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}

std::string percent(std::size_t part, std::size_t whole) {
  const double share = whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
  return fixed(100.0 * share, 1) + " %";
}

std::string plural(std::size_t count, const std::string& noun) {
  return text(count, " ", noun, count == 1 ? "" : "s");
}

std::string named(const std::string& layer) { return layer.empty() ? "-" : layer; }

/// The first `width` characters and padding: a name that is longer loses its middle.
std::string fitted(const std::string& name, std::size_t width) {
  if (name.size() <= width) return name + std::string(width - name.size(), ' ');
  const std::size_t head = width / 2 - 1;
  return name.substr(0, head) + ".." + name.substr(name.size() - (width - head - 2));
}

/// Columns as wide as their widest cell; the first is flush left, the others flush right.
class Columns {
 public:
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  [[nodiscard]] std::string print() const {
    std::vector<std::size_t> widths;
    for (const auto& cells : rows_) {
      widths.resize(std::max(widths.size(), cells.size()));
      for (std::size_t i = 0; i < cells.size(); ++i)
        widths[i] = std::max(widths[i], cells[i].size());
    }
    std::string result;
    for (const auto& cells : rows_) {
      std::string line;
      for (std::size_t i = 0; i < cells.size(); ++i) {
        const std::string padding(widths[i] - cells[i].size(), ' ');
        line += i == 0 ? cells[i] + padding : "  " + padding + cells[i];
      }
      result += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    }
    return result;
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// What all entries take, and what a short last batch does.
std::string entries_table(const Blueprint& blueprint) {
  Columns columns;
  columns.add({"entry", "scratch", "lower bound", "", "without reuse", "steps", "phases"});
  bool trains = false;
  for (const Entry& entry : blueprint.entries) {
    trains = trains || entry.name == "train";
    const std::size_t arena = entry.plan.arena_bytes, bound = entry.plan.lower_bound_bytes;
    columns.add({entry.name, human_bytes(arena), human_bytes(bound),
                 arena == bound ? "reached" : "+" + percent(arena - bound, bound),
                 human_bytes(entry.sum_bytes), text(entry.steps.size()), text(entry.edges.size())});
  }
  return columns.print() +
         (trains ? "A last batch with fewer rows runs through the same entries in the same bytes.\n"
                 : "");
}

/// Bytes by layer and role in one unit, so that columns can be compared at a glance.
class LayerTable {
 public:
  explicit LayerTable(const std::vector<LayerBytes>& layers, std::size_t most) : total_{"all", {}} {
    std::vector<std::size_t> sums;
    for (const LayerBytes& layer : layers) {
      sums.push_back(layer.sum());
      for (std::size_t role = 0; role < kRoles; ++role) total_.by[role] += layer.by[role];
    }
    std::ranges::sort(sums, std::ranges::greater{});
    const bool all = most == 0 || layers.size() <= most;
    const std::size_t least = all ? 0 : sums[most - 1];
    LayerBytes rest;
    std::size_t left_out = 0;
    for (const LayerBytes& layer : layers) {
      if (layer.sum() >= least && (all || shown_.size() < most)) {
        shown_.push_back(layer);
        shown_.back().layer = named(layer.layer);
        continue;
      }
      ++left_out;
      for (std::size_t role = 0; role < kRoles; ++role) rest.by[role] += layer.by[role];
    }
    if (left_out > 0) {
      rest.layer = text("(", plural(left_out, "other"), ")");
      shown_.push_back(rest);
    }
    shown_.push_back(total_);
  }

  [[nodiscard]] std::string print() const {
    Columns columns;
    std::vector<std::string> head{"layer"};
    for (std::size_t role = 0; role < kRoles; ++role) {
      if (total_.by[role] > 0) head.push_back(to_string(static_cast<Role>(role)));
    }
    head.insert(head.end(), {"sum", "share"});
    columns.add(head);
    for (const LayerBytes& layer : shown_) {
      std::vector<std::string> cells{
          fitted(layer.layer, std::min(kLayerWidth, layer.layer.size()))};
      for (std::size_t role = 0; role < kRoles; ++role) {
        if (total_.by[role] > 0) cells.push_back(layer.by[role] == 0 ? "." : cell(layer.by[role]));
      }
      cells.push_back(cell(layer.sum()));
      cells.push_back(percent(layer.sum(), total_.sum()));
      columns.add(cells);
    }
    return columns.print();
  }
  [[nodiscard]] const char* unit() const { return total_.sum() >= 10U << 20U ? "MiB" : "KiB"; }

 private:
  static constexpr std::size_t kLayerWidth = 18;

  [[nodiscard]] std::string cell(std::size_t bytes) const {
    const double unit = total_.sum() >= 10U << 20U ? 1 << 20U : 1 << 10U;
    return fixed(static_cast<double>(bytes) / unit, total_.sum() >= 10U << 20U ? 2 : 1);
  }

  std::vector<LayerBytes> shown_;
  LayerBytes total_;
};

/// "conv2d of 3": who does something, as far as it has a name.
std::string of_layer(const std::string& op, const std::string& layer) {
  return layer.empty() ? op : op + " of " + layer;
}

std::string reason_of(const AliveGroup& group) {
  switch (group.why) {
    case Why::made:
      return "written now";
    case Why::read:
      return "read now, then free";
    case Why::phase:
      return "in use in this phase";
    default:
      return text("for step ", group.next.step, ", ", of_layer(group.next.op, group.next.layer));
  }
}

std::string parts_of(const AliveGroup& group) {
  return group.slots > 1 ? text(", ", group.slots, " parts") : "";
}

std::string alive_table(const std::vector<AliveGroup>& groups, std::size_t peak, std::size_t most) {
  const std::size_t shown = most == 0 ? groups.size() : std::min(most, groups.size());
  constexpr std::size_t kWho = 35, kWhy = 43;  // the widest that leave room for each other
  const auto who = [](const AliveGroup& group) {
    return of_layer(group.op, group.layer) + parts_of(group);
  };
  std::size_t width = 0, rest = 0;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (i < shown) width = std::min(kWho, std::max(width, who(groups[i]).size()));
    if (i >= shown) rest += groups[i].bytes;
  }
  std::ostringstream out;
  const auto begin = [&](std::size_t bytes) -> std::ostream& {
    return out << std::setw(10) << human_bytes(bytes) << std::setw(8) << percent(bytes, peak)
               << "  ";
  };
  for (const AliveGroup& group : std::span(groups).first(shown)) {
    const std::string why = reason_of(group);
    begin(group.bytes) << fitted(who(group), width) << "  "
                       << fitted(why, std::min(kWhy, why.size())) << "\n";
  }
  if (rest > 0) begin(rest) << plural(groups.size() - shown, "smaller one") << "\n";
  return out.str();
}

/// Where the entry is fullest: a line per member with bytes of its own.
std::string moment(const Blueprint& blueprint, const Entry& entry) {
  constexpr std::size_t kMost = 4;
  const std::vector<StepName> steps = fullest_steps(blueprint, entry.name);
  std::string result;
  for (std::size_t i = 0; i < std::min(kMost, steps.size()); ++i)
    result += text("  step ", steps[i].step, " of ", entry.steps.size(), ", ",
                   of_layer(steps[i].op, steps[i].layer), "\n");
  if (steps.size() > kMost) result += text("  and ", steps.size() - kMost, " more members\n");
  return result;
}

std::string bound_of(const Blueprint& blueprint) {
  const std::size_t arena = blueprint.arena_bytes(), bound = blueprint.lower_bound_bytes();
  return text(
      "lower bound ", human_bytes(bound),
      arena == bound ? " (reached)" : text(" (", percent(arena - bound, bound), " above it)"), ", ",
      human_bytes(blueprint.sum_bytes()), " without reuse\n");
}

/// One line, or nothing where all of what the backward pass reads is kept.
std::string price_of_budget(const Blueprint& blueprint, const Entry& entry) {
  if (entry.made_again == 0) return "";
  return text("within the budget of ", human_bytes(blueprint.options.budget_bytes), ": ",
              plural(static_cast<std::size_t>(entry.made_again), "node"),
              " of the forward pass computed again, about ", std::lround(100.0 * entry.extra_time),
              " % more time (modelled)\n");
}

void put_line(std::ostream& out, std::size_t bytes, const std::string& role,
              const std::string& layer, std::size_t width, const std::string& remark) {
  out << "  " << std::right << std::setw(10) << human_bytes(bytes) << "  " << std::left
      << std::setw(11) << role << std::setw(static_cast<int>(width) + 2) << named(layer) << remark
      << "\n";
}

}  // namespace

std::string describe(const Blueprint& blueprint, std::string_view name, std::size_t most) {
  const Entry& entry = blueprint.entry(name);
  std::ostringstream out;
  out << "arena " << human_bytes(blueprint.arena_bytes()) << " ("
      << human_bytes(blueprint.persistent_bytes) << " persistent + "
      << human_bytes(blueprint.scratch_bytes) << " scratch), " << bound_of(blueprint) << "entry '"
      << entry.name << "': " << plural(entry.steps.size(), "step") << ", "
      << plural(static_cast<std::size_t>(entry.kernels), "kernel") << ", "
      << plural(static_cast<std::size_t>(blueprint.options.threads), "thread") << ", "
      << plural(entry.edges.size(), "phase") << "\n"
      << price_of_budget(blueprint, entry);
  std::vector<ReportSum> sums = sums_by_layer(report(blueprint, name));
  std::vector<AliveGroup> alive = alive_groups(blueprint, name);
  const std::size_t groups = alive.size();
  sums.resize(std::min(most, sums.size()));
  alive.resize(std::min(most, alive.size()));
  std::size_t width = 6;
  for (const ReportSum& sum : sums) width = std::max(width, sum.layer.size());
  for (const AliveGroup& group : alive) width = std::max(width, group.layer.size());
  out << "largest by layer and role\n";
  for (const ReportSum& sum : sums) {
    put_line(out, sum.bytes, to_string(sum.role), sum.layer, width,
             plural(static_cast<std::size_t>(sum.slots), "slot") +
                 (sum.persistent ? "" : ", at different times"));
  }
  out << "alive at the peak of the scratch\n";
  for (const AliveGroup& group : alive)
    put_line(out, group.bytes, to_string(group.role), group.layer, width,
             group.op + parts_of(group));
  if (groups > most) out << "  and " << groups - most << " smaller ones\n";
  return out.str();
}

std::string tables(const Blueprint& blueprint, std::string_view name, std::size_t most) {
  const Entry& entry = blueprint.entry(name);
  const std::vector<LayerBytes> layers = bytes_at_peak(blueprint, name);
  const LayerTable table(layers, most);
  std::ostringstream out;
  out << "arena " << human_bytes(blueprint.arena_bytes()) << " = " << blueprint.arena_bytes()
      << " bytes: " << human_bytes(blueprint.persistent_bytes) << " persistent + "
      << human_bytes(blueprint.scratch_bytes) << " scratch\n"
      << bound_of(blueprint) << price_of_budget(blueprint, entry) << "\n"
      << entries_table(blueprint) << "\n'" << entry.name << "' is fullest at\n"
      << moment(blueprint, entry) << "who has which bytes then, in " << table.unit() << "\n"
      << table.print() << "\nalive then, beside what is persistent, and what for\n"
      << alive_table(alive_groups(blueprint, name),
                     blueprint.persistent_bytes + entry.plan.lower_bound_bytes, most);
  return out.str();
}

std::string human_bytes(std::size_t bytes) {
  if (bytes < 1024) return text(bytes, " B");
  constexpr std::array<const char*, 5> kUnits{"KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes) / 1024.0;
  std::size_t unit = 0;
  for (; value >= 1023.95 && unit + 1 < kUnits.size(); ++unit) value /= 1024.0;
  return fixed(value, 1) + " " + kUnits[unit];
}

}  // namespace poolgrad
