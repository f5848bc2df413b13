// Where a step's time goes, as Python sees it.
#include "engine/profile.h"

#include "python/bindings/bindings.h"

namespace poolgrad::python {
namespace {

nb::list ops_of(const Profile& profile) {
  nb::list result;
  for (const ProfileRow& row : profile.rows) {
    nb::dict op;
    op["op"] = row.op;
    op["layer"] = row.layer;
    op["calls"] = row.calls;
    op["us"] = row.us;
    op["share"] = row.share;
    op["gflops"] = row.flops > 0.0 ? nb::cast(row.gflops()) : nb::none();
    op["gbs"] = row.flops > 0.0 ? nb::none() : nb::cast(row.gbs());
    result.append(op);
  }
  return result;
}

nb::list members_of(const Profile& profile) {
  nb::list result;
  for (const MemberTime& time : profile.members) {
    nb::dict member;
    member["busy_us"] = time.busy_us;
    member["wait_us"] = time.wait_us;
    member["rest_us"] = time.rest_us;
    result.append(member);
  }
  return result;
}

}  // namespace

void bind_profile(nb::module_& module) {
  nb::class_<Profile>(module, "Profile", "Where the time of a step goes. print() it for a table.")
      .def_ro("steps", &Profile::steps, "How many were timed.")
      .def_ro("step_us", &Profile::step_us, "The median.")
      .def_prop_ro(
          "ops", ops_of, nb::sig("def ops(self) -> list[dict[str, object]]"),
          "By op and layer, slowest first: op, layer, calls (nodes per step), us (of all of "
          "them, on all\nthreads), share, and gflops or gbs per second, the other one None.")
      .def_prop_ro("members", members_of, nb::sig("def members(self) -> list[dict[str, float]]"),
                   "Of each thread: busy_us in kernels, wait_us for others, rest_us between "
                   "kernels. One where one\nthread ran all, as it does with small steps.")
      .def("__str__", [](const Profile& profile) {
        std::string lines = describe(profile);
        while (lines.ends_with('\n')) lines.pop_back();
        return lines;
      });
}

}  // namespace poolgrad::python
