// Lines that more than one subcommand prints.
#include "cli/output.h"

#include <ostream>

#include "engine/machine.h"
#include "engine/peak.h"
#include "engine/report.h"

namespace poolgrad::cli {

namespace {

Json step_of(const StepName& step) {
  return {{"step", step.step}, {"op", step.op}, {"layer", step.layer}};
}

Json entry_of(const Blueprint& blueprint, const Entry& entry) {
  Json result{{"name", entry.name},
              {"scratch_bytes", entry.plan.arena_bytes},
              {"scratch_lower_bound_bytes", entry.plan.lower_bound_bytes},
              {"scratch_sum_bytes", entry.sum_bytes},
              {"steps", entry.steps.size()},
              {"kernels", entry.kernels},
              {"phases", entry.edges.size()},
              {"fullest", Json::array()},
              {"layers", Json::array()},
              {"alive", Json::array()}};
  for (const StepName& step : fullest_steps(blueprint, entry.name))
    result["fullest"].push_back(step_of(step));
  for (const LayerBytes& layer : bytes_at_peak(blueprint, entry.name)) {
    Json row{{"layer", layer.layer}};
    for (std::size_t role = 0; role < kRoles; ++role)
      row[to_string(static_cast<Role>(role)) + "_bytes"] = layer.by[role];
    result["layers"].push_back(std::move(row));
  }
  for (const AliveGroup& group : alive_groups(blueprint, entry.name)) {
    result["alive"].push_back({{"bytes", group.bytes},
                               {"slots", group.slots},
                               {"role", to_string(group.role)},
                               {"op", group.op},
                               {"layer", group.layer},
                               {"why", to_string(group.why)},
                               {"next", step_of(group.next)}});
  }
  return result;
}

}  // namespace

void print_line(std::ostream& out, const Json& object) { out << object.dump() << std::endl; }

Json plan_event(const Blueprint& blueprint) {
  return {{"event", "plan"},
          {"arena_bytes", blueprint.arena_bytes()},
          {"lower_bound_bytes", blueprint.lower_bound_bytes()},
          {"sum_bytes", blueprint.sum_bytes()},
          {"persistent_bytes", blueprint.persistent_bytes},
          {"made_again", blueprint.entry("train").made_again},
          {"extra_time", blueprint.entry("train").extra_time}};
}

Json plan_details(const Blueprint& blueprint) {
  Json result = plan_event(blueprint);
  for (const Entry& entry : blueprint.entries)
    result["entries"].push_back(entry_of(blueprint, entry));
  return result;
}

void print_plan(std::ostream& out, const Blueprint& blueprint) {
  out << describe(blueprint, "train");
  print_conditions(out, blueprint);
}

void print_conditions(std::ostream& out, const Blueprint& blueprint) {
  out << "for " << instruction_set() << " and " << kernel_library() << "\n";
  if (blueprint.options.memory != Memory::planned) {
    out << "memory is " << to_string(blueprint.options.memory)
        << ": scratch comes tensor by tensor, at most "
        << human_bytes(blueprint.predicted_peak_bytes()) << " in all\n";
  }
  out.flush();
}

Json profile_event(const Profile& profile) {
  Json ops = Json::array(), members = Json::array();
  for (const ProfileRow& row : profile.rows) {
    Json op{{"op", row.op},
            {"layer", row.layer},
            {"calls", row.calls},
            {"us", row.us},
            {"share", row.share}};
    if (row.flops > 0.0) {
      op["gflops"] = row.gflops();
    } else {
      op["gbs"] = row.gbs();
    }
    ops.push_back(std::move(op));
  }
  for (const MemberTime& time : profile.members)
    members.push_back(
        {{"busy_us", time.busy_us}, {"wait_us", time.wait_us}, {"rest_us", time.rest_us}});
  return {{"event", "profile"},
          {"steps", profile.steps},
          {"step_us", profile.step_us},
          {"ops", std::move(ops)},
          {"members", std::move(members)}};
}

std::string grouped(std::size_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
  return digits;
}

}  // namespace poolgrad::cli
