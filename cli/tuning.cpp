// Standard error is for people: results stand on standard output.
#include "cli/tuning.h"

#include <iomanip>
#include <iostream>

#include "interop/tuning_file.h"

namespace poolgrad::cli {
namespace {

constexpr double kPatience = 2.0;  // seconds between two lines

void say(const Tuning::Spent& spent, const std::string& rest) {
  std::cerr << "poolgrad: timed " << spent.problems
            << (spent.problems == 1 ? " problem" : " problems") << " in " << std::fixed
            << std::setprecision(1) << spent.seconds << " s" << rest << std::endl;
}

}  // namespace

std::shared_ptr<Tuning> open_tuning(const std::string& path) {
  auto tuning = interop::read_tuning(path);
  tuning->on_timed = [next = kPatience](const Tuning::Spent& spent) mutable {
    if (spent.seconds < next) return;
    next = spent.seconds + kPatience;
    say(spent, ", going on");
  };
  return tuning;
}

void save_tuning(const std::string& path, const Options& options) {
  if (!options.tuning || options.tuning->spent.problems == 0) return;
  interop::write_tuning(path, *options.tuning);
  const Tuning::Spent& spent = options.tuning->spent;
  say(spent, text(", written to ", path,
                  spent.left_out == 0 ? "" : "; time was up for others, which go by the rules"));
}

}  // namespace poolgrad::cli
