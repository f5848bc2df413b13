// memory::plan() as Python sees it: columns in, offsets out. What columns there may be is decided
// in _plan_requests.py.
#include <map>

#include <nanobind/stl/map.h>

#include "engine/error.h"
#include "memory/plan.h"
#include "python/bindings/bindings.h"

namespace poolgrad::python {
namespace {

using Columns = std::map<std::string, std::vector<std::int64_t>>;

/// Of an int any, of bytes none below `least`.
template <typename T>
void set(std::vector<memory::Request>& requests, const Columns& columns, const char* name,
         T memory::Request::*member, std::int64_t least = 0) {
  constexpr bool kIsInt = std::is_same_v<T, int>;
  const auto column = columns.find(name);
  if (column == columns.end()) return;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const std::int64_t value = column->second[i];
    const bool fits = kIsInt ? value == static_cast<int>(value) : value >= least;
    if (!fits)
      throw ArgumentError(text("plan: request ", i, " has ", name, " ", value,
                               kIsInt      ? "; give a number that fits into 32 bits"
                               : least < 0 ? "; give 0 or more, or -1 or None for anywhere"
                                           : "; give 0 or more"));
    requests[i].*member = static_cast<T>(value);
  }
}

nb::dict plan_requests(const Columns& columns, std::size_t alignment, std::size_t capacity,
                       std::int64_t nodes, double seconds) {
  std::vector<memory::Request> requests(columns.at("size").size());
  set(requests, columns, "lower", &memory::Request::first);
  set(requests, columns, "upper", &memory::Request::end);
  set(requests, columns, "size", &memory::Request::bytes);
  set(requests, columns, "alignment", &memory::Request::alignment);
  set(requests, columns, "member", &memory::Request::member);
  set(requests, columns, "first_phase", &memory::Request::first_phase);
  set(requests, columns, "end_phase", &memory::Request::end_phase);
  static_assert(static_cast<std::size_t>(-1) == memory::kAnywhere);
  set(requests, columns, "at", &memory::Request::at, -1);
  memory::PlanOptions options;
  options.alignment = alignment;
  options.capacity = capacity;
  options.nodes = nodes;
  options.seconds = seconds;
  memory::Plan plan;
  {
    const nb::gil_scoped_release release;
    plan = memory::plan(requests, options);
  }
  nb::dict result;
  result["offsets"] = plan.offsets;
  result["arena_bytes"] = plan.arena_bytes;
  result["lower_bound_bytes"] = plan.lower_bound_bytes;
  result["proved_bytes"] = plan.proved_bytes;
  result["optimal"] = plan.optimal();
  result["witness"] = memory::alive_at(requests, plan.witness);
  result["nodes"] = plan.nodes;
  result["stopped_by"] = std::string(memory::to_string(plan.stop));
  return result;
}

}  // namespace

void bind_plan_requests(nb::module_& module) {
  module.def("plan_requests", plan_requests, "columns"_a, nb::kw_only(), "alignment"_a,
             "capacity"_a, "nodes"_a, "seconds"_a);
}

}  // namespace poolgrad::python
