// poolgrad info: what a report of a bug or of a measurement should begin with.
#include <iostream>

#include "cli/commands.h"
#include "cli/output.h"
#include "engine/machine.h"
#include "engine/report.h"
#include "memory/allocation_count.h"
#include "memory/system.h"

namespace poolgrad::cli {

void add_info(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("info", "Print version, instruction set, libraries, cores and memory");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "one JSON object instead of text");
  command->callback([json] {
    const std::size_t memory = memory::available_bytes();
    if (*json) {
      print_line(std::cout, {{"event", "info"},
                             {"version", POOLGRAD_VERSION},
                             {"instruction_set", instruction_set()},
                             {"kernels", kernel_library()},
                             {"cuda", kCuda},
                             {"cores", usable_cores()},
                             {"available_bytes", memory},
                             {"counts_allocations", memory::counting()}});
      return;
    }
    std::cout << "poolgrad         " << POOLGRAD_VERSION << "\n"
              << "instruction set  " << instruction_set() << "\n"
              << "kernels          " << kernel_library() << (kCuda ? ", CUDA" : "") << "\n"
              << "cores            " << usable_cores() << "\n"
              << "free memory      " << human_bytes(memory) << "\n"
              << "allocations      "
              << (memory::counting() ? "counted in this build\n" : "not counted in this build\n");
  });
}

}  // namespace poolgrad::cli
