// Reads a blueprint's tables into rows, sums and text.
#include "engine/report.h"

#include <algorithm>
#include <array>
#include <iomanip>
#include <map>
#include <tuple>

namespace poolgrad {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

Role role_of_column(const std::string& column) {
  if (column == "parameters") return Role::parameter;
  if (column == "gradients") return Role::gradient;
  if (column == "inputs") return Role::input;
  if (column == "kept" || column == "settings" || column == "counters" || column == "statistics")
    return Role::other;
  return Role::moment;
}

/// The steps [first, end) in which a storage is alive: its own, or where several members touch it,
/// whole phases.
std::pair<int, int> steps_of(const Entry& entry, std::size_t storage) {
  const memory::Request& request = entry.requests[storage];
  const bool by_phase = request.member == memory::kSeveral;
  int first = static_cast<int>(entry.steps.size()), end = 0;
  for (int i = 0; i < static_cast<int>(entry.steps.size()); ++i) {
    const Step& step = entry.steps[row(i)];
    const bool inside = by_phase
                            ? step.phase >= request.first_phase && step.phase < request.end_phase
                            : step.node >= request.first && step.node < request.end;
    if (!inside) continue;
    first = std::min(first, i);
    end = i + 1;
  }
  return {first, end};
}

/// Names planned storages after the tensor that is first in them.
struct Makers {
  std::vector<int> tensor, node;  // by storage; -1: nobody (a workspace)

  explicit Makers(const Entry& entry)
      : tensor(entry.storages.all.size(), -1), node(entry.storages.all.size(), -1) {
    const std::vector<Node>& nodes = entry.graph->nodes;
    for (int i = 0; i < static_cast<int>(nodes.size()); ++i) {
      if (nodes[row(i)].op->view != nullptr) continue;
      for (const int id : nodes[row(i)].outputs) {
        const std::size_t storage = row(entry.storages.of[row(id)]);
        if (node[storage] >= 0) continue;
        tensor[storage] = id;
        node[storage] = i;
      }
    }
  }
};

std::vector<ReportRow> persistent_rows(const Blueprint& blueprint, const Entry& entry) {
  std::vector<ReportRow> rows;
  const TensorTable& tensors = blueprint.tensors;
  for (int id = 0; id < tensors.size(); ++id) {
    if (blueprint.offset[row(id)] < 0) continue;
    rows.push_back({.name = tensors.name[row(id)],
                    .layer = tensors.layer[row(id)],
                    .role = role_of_column(tensors.column[row(id)]),
                    .persistent = true,
                    .bytes = memory::aligned(tensors.spec[row(id)].bytes()),
                    .offset = static_cast<std::size_t>(blueprint.offset[row(id)]),
                    .first = 0,
                    .end = static_cast<int>(entry.steps.size())});
  }
  std::ranges::sort(rows, {}, &ReportRow::offset);
  return rows;
}

ReportRow planned_row(const Blueprint& blueprint, const Entry& entry, const Makers& makers,
                      std::size_t storage) {
  ReportRow result;
  result.bytes = memory::aligned(entry.requests[storage].bytes);
  result.offset = blueprint.persistent_bytes + entry.plan.offsets[storage];
  std::tie(result.first, result.end) = steps_of(entry, storage);
  int node = makers.node[storage];
  if (node >= 0) {
    const int id = makers.tensor[storage];
    result.layer = entry.graph->tensors.layer[row(id)];
    result.role = entry.graph->tensors.backward[row(id)] != 0 ? Role::gradient : Role::activation;
  } else {
    node = entry.storages.all[storage].first;
    result.role = Role::workspace;
    const std::vector<int>& outputs = entry.graph->nodes[row(node)].outputs;
    if (!outputs.empty()) result.layer = entry.graph->tensors.layer[row(outputs[0])];
  }
  result.name = entry.graph->nodes[row(node)].op->name;
  return result;
}

/// Planned storages that take part in the entry: (storage, row).
std::vector<std::pair<std::size_t, ReportRow>> planned_rows(const Blueprint& blueprint,
                                                            const Entry& entry) {
  const Makers makers(entry);
  std::vector<std::pair<std::size_t, ReportRow>> rows;
  for (std::size_t storage = 0; storage < entry.requests.size(); ++storage) {
    if (memory::alive(entry.requests[storage]))
      rows.emplace_back(storage, planned_row(blueprint, entry, makers, storage));
  }
  return rows;
}

std::string percent(std::size_t part, std::size_t whole) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1)
      << 100.0 * static_cast<double>(part) / static_cast<double>(whole) << " %";
  return out.str();
}

/// Characters of the longest layer's name in the first `most` of `rows`.
template <typename Row>
int layer_width(const std::vector<Row>& rows, std::size_t most) {
  std::size_t width = 6;
  for (std::size_t i = 0; i < std::min(most, rows.size()); ++i)
    width = std::max(width, rows[i].layer.size());
  return static_cast<int>(width);
}

void put_line(std::ostream& out, std::size_t bytes, const std::string& role,
              const std::string& layer, int width, const std::string& remark) {
  out << "  " << std::right << std::setw(10) << human_bytes(bytes) << "  " << std::left
      << std::setw(11) << role << std::setw(width + 2) << (layer.empty() ? "-" : layer) << remark
      << "\n";
}

}  // namespace

std::string to_string(Role role) {
  constexpr std::array<const char*, 7> kNames{"parameter",  "moment",    "input", "gradient",
                                              "activation", "workspace", "other"};
  return kNames[static_cast<std::size_t>(role)];
}

std::vector<ReportRow> report(const Blueprint& blueprint, std::string_view name) {
  const Entry& entry = blueprint.entry(name);
  std::vector<ReportRow> rows = persistent_rows(blueprint, entry);
  std::vector<ReportRow> planned;
  for (auto& [storage, planned_row] : planned_rows(blueprint, entry))
    planned.push_back(std::move(planned_row));
  std::ranges::stable_sort(planned, {}, &ReportRow::first);
  rows.insert(rows.end(), planned.begin(), planned.end());
  return rows;
}

std::vector<ReportSum> sums_by_layer(const std::vector<ReportRow>& rows) {
  std::map<std::tuple<bool, std::string, Role>, ReportSum> sums;
  for (const ReportRow& row : rows) {
    ReportSum& sum = sums[{row.persistent, row.layer, row.role}];
    sum.layer = row.layer;
    sum.role = row.role;
    sum.persistent = row.persistent;
    sum.bytes += row.bytes;
    ++sum.slots;
  }
  std::vector<ReportSum> result;
  for (const auto& [key, sum] : sums) result.push_back(sum);
  std::ranges::stable_sort(result, std::ranges::greater{}, &ReportSum::bytes);
  return result;
}

std::vector<ReportRow> alive_at_peak(const Blueprint& blueprint, std::string_view name) {
  const Entry& entry = blueprint.entry(name);
  const std::vector<std::size_t> alive = memory::alive_at(entry.requests, entry.plan.witness);
  const Makers makers(entry);
  std::vector<ReportRow> rows;
  for (const std::size_t storage : alive)
    rows.push_back(planned_row(blueprint, entry, makers, storage));
  std::ranges::stable_sort(rows, std::ranges::greater{}, &ReportRow::bytes);
  return rows;
}

std::string describe(const Blueprint& blueprint, std::string_view name, std::size_t most) {
  const Entry& entry = blueprint.entry(name);
  const std::size_t arena = blueprint.arena_bytes(), bound = blueprint.lower_bound_bytes();
  std::ostringstream out;
  out << "arena " << human_bytes(arena) << " (" << human_bytes(blueprint.persistent_bytes)
      << " persistent + " << human_bytes(blueprint.scratch_bytes) << " scratch), lower bound "
      << human_bytes(bound)
      << (arena == bound ? " (reached)" : text(" (", percent(arena - bound, bound), " above it)"))
      << ", " << human_bytes(blueprint.sum_bytes()) << " without reuse\n";
  out << "entry '" << entry.name << "': " << entry.steps.size() << " steps, " << entry.kernels
      << " kernels, " << blueprint.options.threads
      << (blueprint.options.threads == 1 ? " thread, " : " threads, ") << entry.edges.size()
      << (entry.edges.size() == 1 ? " phase\n" : " phases\n");

  const std::vector<ReportSum> sums = sums_by_layer(report(blueprint, name));
  const std::vector<ReportRow> alive = alive_at_peak(blueprint, name);
  const int width = std::max(layer_width(sums, most), layer_width(alive, most));
  out << "largest by layer and role\n";
  for (const ReportSum& sum : std::span(sums).first(std::min(most, sums.size()))) {
    put_line(out, sum.bytes, to_string(sum.role), sum.layer, width,
             text(sum.slots, sum.slots == 1 ? " slot" : " slots",
                  sum.persistent ? "" : ", at different times"));
  }
  out << "alive at the peak of the scratch\n";
  for (const ReportRow& row : std::span(alive).first(std::min(most, alive.size())))
    put_line(out, row.bytes, to_string(row.role), row.layer, width, row.name);
  if (alive.size() > most) out << "  and " << alive.size() - most << " smaller ones\n";
  return out.str();
}

std::string human_bytes(std::size_t bytes) {
  if (bytes < 1024) return text(bytes, " B");
  constexpr std::array<const char*, 5> kUnits{"KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes) / 1024.0;
  std::size_t unit = 0;
  for (; value >= 1023.95 && unit + 1 < kUnits.size(); ++unit) value /= 1024.0;
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << value << " " << kUnits[unit];
  return out.str();
}

}  // namespace poolgrad
