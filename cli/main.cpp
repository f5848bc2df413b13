// poolgrad: reads the command line and answers with an exit code. What a subcommand does is in its
// file.
#include <algorithm>
#include <cctype>
#include <iostream>

#include "cli/commands.h"
#include "engine/error.h"

namespace poolgrad::cli {
namespace {

int fail(const std::string& what, int code) {
  std::cout.flush();
  std::cerr << "poolgrad: " << what << "\n";
  return code;
}

/// CLI11's own codes become 0 (help, version) and 2.
int report(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
  std::string command = "poolgrad";
  for (const CLI::App* sub : app.get_subcommands()) command += " " + sub->get_name();
  std::string what = error.what();  // of CLI11: a sentence, some with several lines
  std::replace(what.begin(), what.end(), '\n', ' ');
  what[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(what[0])));
  if (app.get_subcommands().empty() && !app.remaining().empty())
    what = text("no command '", app.remaining()[0], "'; choose train, plan or info");
  return fail(text(what, "; see ", command, " --help"), kUsage);
}

int run(int argc, char** argv) {
  CLI::App app(
      "Trains small neural networks inside one preallocated block of memory, planned to the byte\n"
      "before the first step.");
  app.name("poolgrad");
  app.set_version_flag("--version", std::string("poolgrad ") + POOLGRAD_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(28);
  app.footer(
      "Examples:\n"
      "  poolgrad train --model mlp --hidden 256,128\n"
      "  poolgrad train --model cnn --epochs 3 --save cnn.safetensors\n"
      "  poolgrad plan --model cnn --batch 128 --svg arena.svg\n"
      "\n"
      "Exit codes: 0 success, 1 failure, 2 wrong usage, 3 no plan is within the capacity,\n"
      "4 none was found in time, 130 interrupted.");
  int exit_code = kSuccess;
  add_train(app, exit_code);
  add_plan(app, exit_code);
  add_info(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return report(app, error);
  } catch (const ArgumentError& error) {  // every setting comes from the command line
    return fail(error.what(), kUsage);
  } catch (const std::exception& error) {
    return fail(error.what(), kFailure);
  }
  std::cout.flush();
  if (!std::cout) return fail("standard output cannot be written; is the disk full", kFailure);
  return exit_code;
}

}  // namespace
}  // namespace poolgrad::cli

int main(int argc, char** argv) { return poolgrad::cli::run(argc, argv); }
