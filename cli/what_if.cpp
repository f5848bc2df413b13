// Asks train/what_if.h and prints what it answers.
#include "cli/what_if.h"

#include <charconv>
#include <chrono>
#include <iomanip>
#include <iostream>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "engine/curves_svg.h"
#include "engine/report.h"
#include "interop/atomic_file.h"

namespace poolgrad::cli {
namespace {

constexpr std::size_t kMostRows = 4096;          // of a sweep
constexpr std::int64_t kMostBatch = 2147483647;  // of a sweep

Json json_of(const train::Needs& needs) {
  return {{"batch", needs.batch},
          {"peak_bytes", needs.peak_bytes},
          {"lower_bound_bytes", needs.lower_bound_bytes},
          {"sum_bytes", needs.sum_bytes},
          {"persistent_bytes", needs.persistent_bytes}};
}

double milliseconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
      .count();
}

// ---- the largest batch

std::string too_small(const train::TaskSpec& spec, const Options& options, std::size_t peak,
                      std::size_t limit) {
  train::TaskSpec one = spec;
  one.batch = 1;
  const train::Task task = train::make_task(one);
  return text("not even batch 1 fits into ", human_bytes(limit), ": it needs ", human_bytes(peak),
              ", ", human_bytes(peak - limit), " more; most of it ",
              train::largest_parts(draft(*task.graph, task.entries, options)));
}

int print_max_batch(const std::string& typed, const Question& question) {
  const train::TaskSpec& spec = question.spec;
  const Options& options = question.options;
  const std::size_t limit = parse_bytes(typed, "--max-batch");
  const auto begin = std::chrono::steady_clock::now();
  const train::LargestBatch largest = train::largest_batch(spec, options, limit);
  const double ms = milliseconds_since(begin);
  const train::Needs& at = largest.at;
  if (question.json) {
    Json line{{"event", "max_batch"}, {"limit_bytes", limit}};
    line.update(json_of(at));
    line.update({{"largest_by_bound", largest.by_bound},
                 {"checked_up_to", largest.checked},
                 {"drafts", largest.drafts},
                 {"ms", ms}});
    if (at.batch == 0) line["short_bytes"] = at.peak_bytes - limit;
    print_line(std::cout, line);
    return at.batch > 0 ? kSuccess : kFailure;
  }
  if (at.batch == 0)
    throw MemoryError(text("--max-batch: ", too_small(spec, options, at.peak_bytes, limit)));
  std::cout << "batch " << at.batch << " is the largest that fits into " << human_bytes(limit)
            << ": " << human_bytes(at.peak_bytes) << " (" << at.peak_bytes << " bytes), "
            << human_bytes(limit - at.peak_bytes) << " to spare\n"
            << (largest.by_bound == at.batch
                    ? ""
                    : text("batch ", at.batch + 1, " to ", largest.by_bound,
                           ": the lower bound fits, but no plan that was tried does\n"))
            << "batch " << largest.by_bound + 1 << " to " << largest.checked
            << ": nothing fits, and at " << largest.checked
            << " any plan takes over four times that\n"
            << largest.drafts << " drafts, " << std::fixed << std::setprecision(0) << ms << " ms\n";
  return kSuccess;
}

// ---- a sweep

std::int64_t number(std::string_view typed, const std::string& all) {
  std::int64_t value = 0;
  const auto [read, error] = std::from_chars(typed.data(), typed.data() + typed.size(), value);
  if (error != std::errc() || read != typed.data() + typed.size() || value < 1 ||
      value > kMostBatch)
    throw ArgumentError(text("--sweep: '", all, "' has '", typed, "' where a number from 1 to ",
                             kMostBatch, " belongs; write batch=1..1024 or batch=32..1024:32"));
  return value;
}

void draw_sweep(const std::vector<train::Needs>& rows, const std::string& title, bool logarithmic,
                const std::string& path) {
  Curve peak{"arena", "#2f5d8a", false, {}}, bound{"lower bound", "#111", true, {}},
      sum{"without reuse", "#d1495b", false, {}}, persistent{"persistent", "#8fb8de", false, {}};
  for (const train::Needs& row : rows) {
    const auto x = static_cast<double>(row.batch);
    peak.points.push_back({x, row.peak_bytes});
    bound.points.push_back({x, row.lower_bound_bytes});
    sum.points.push_back({x, row.sum_bytes});
    persistent.points.push_back({x, row.persistent_bytes});
  }
  interop::AtomicFile file(path);
  file.write(curves_svg({title, "batch", {sum, peak, bound, persistent}, logarithmic}));
  file.commit();
}

void print_sweep(const std::vector<train::Needs>& rows) {
  std::cout << std::setw(9) << "batch" << std::setw(13) << "arena" << std::setw(13) << "lower bound"
            << std::setw(15) << "per sample" << std::setw(16) << "each further" << std::setw(17)
            << "without reuse"
            << "\n";
  const train::Needs* before = nullptr;
  for (const train::Needs& row : rows) {
    std::string further = "-";
    if (before != nullptr) {
      const auto more =
          static_cast<std::int64_t>(row.peak_bytes) - static_cast<std::int64_t>(before->peak_bytes);
      const std::int64_t each = more / (row.batch - before->batch);
      further = (each < 0 ? "-" : "") + human_bytes(static_cast<std::size_t>(std::abs(each)));
    }
    std::cout << std::setw(9) << row.batch << std::setw(13) << human_bytes(row.peak_bytes)
              << std::setw(13)
              << (row.peak_bytes == row.lower_bound_bytes ? "reached"
                                                          : human_bytes(row.lower_bound_bytes))
              << std::setw(15) << human_bytes(row.peak_bytes / static_cast<std::size_t>(row.batch))
              << std::setw(16) << further << std::setw(17) << human_bytes(row.sum_bytes) << "\n";
    before = &row;
  }
}

int print_sweep(const std::string& typed, const Question& question) {
  const std::vector<std::int64_t> batches = parse_sweep(typed);
  const std::vector<train::Needs> rows = train::sweep(question.spec, question.options, batches);
  if (!question.svg.empty()) {
    const bool doubling = typed.find(':') == std::string::npos;
    draw_sweep(rows, "Memory of a training step of " + question.subject + ", by batch", doubling,
               question.svg);
  }
  if (!question.json) {
    print_sweep(rows);
    return kSuccess;
  }
  for (const train::Needs& row : rows) {
    Json line{{"event", "sweep"}};
    line.update(json_of(row));
    print_line(std::cout, line);
  }
  return kSuccess;
}

// ---- the smallest arena

void print_setting(const char* how, std::size_t bytes, const Options& options) {
  std::cout << std::left << std::setw(27) << how << std::right << std::setw(10)
            << human_bytes(bytes) << "  " << bytes << " bytes, --threads " << options.threads
            << " --chunks " << (options.chunks == 0 ? "auto" : text(options.chunks)) << "\n";
}

int print_smallest(const Question& question) {
  const train::TaskSpec& spec = question.spec;
  const std::vector<train::Setting> settings = train::settings_by_peak(spec, question.options);
  Options best = question.options;
  best.threads = settings.front().threads;
  best.chunks = settings.front().chunks;
  const std::size_t again = train::smallest_budget(spec, question.options);
  const std::size_t both = train::smallest_budget(spec, best);
  if (question.json) {
    for (const train::Setting& setting : settings) {
      Json line{{"event", "setting"}, {"threads", setting.threads}, {"chunks", setting.chunks}};
      line.update(json_of(setting.needs));
      print_line(std::cout, line);
    }
    print_line(std::cout, {{"event", "smallest_budget"},
                           {"budget_bytes", again},
                           {"best_setting_budget_bytes", both}});
    return kSuccess;
  }
  std::cout << "the smallest arena that trains batch " << spec.batch << "\n";
  print_setting("as it is", train::needs(spec, question.options, spec.batch).peak_bytes,
                question.options);
  print_setting("by chunks", settings.front().needs.peak_bytes, best);
  print_setting("by --budget, the same bits", again, question.options);
  print_setting("by both", both, best);
  std::cout << "\nthreads  chunks        arena  lower bound\n";
  for (const train::Setting& setting : settings) {
    std::cout << std::setw(7) << setting.threads << std::setw(8) << setting.chunks << std::setw(13)
              << human_bytes(setting.needs.peak_bytes) << std::setw(13)
              << human_bytes(setting.needs.lower_bound_bytes) << "\n";
  }
  return kSuccess;
}

}  // namespace

std::vector<CLI::Option*> add_what_if_flags(CLI::App& command, WhatIfFlags& flags) {
  CLI::Option* most = command.add_option("--max-batch", flags.max_batch,
                                         "find the largest batch that fits into so many bytes");
  most->type_name("BYTES");
  CLI::Option* sweep = command.add_option("--sweep", flags.sweep,
                                          "one row per batch: powers of two, or multiples of STEP");
  sweep->type_name("batch=A..B[:STEP]");
  CLI::Option* smallest = command.add_flag(
      "--smallest", flags.smallest, "find the smallest arena that trains, by chunks and by budget");
  most->excludes(sweep)->excludes(smallest);
  sweep->excludes(smallest);
  for (CLI::Option* question : {most, smallest}) {
    question->excludes(command.get_option("--budget"));
    question->excludes(command.get_option("--svg"));
  }
  for (CLI::Option* question : {most, sweep, smallest}) {
    for (const char* other : {"--memory-limit", "--entry", "--full"})
      question->excludes(command.get_option(other));
  }
  return {most, sweep, smallest};
}

std::vector<std::int64_t> parse_sweep(const std::string& typed) {
  std::string_view rest = typed;
  constexpr std::string_view kName = "batch=";
  const std::size_t dots = rest.find("..");
  if (!rest.starts_with(kName) || dots == std::string_view::npos)
    throw ArgumentError(
        text("--sweep: '", typed, "' is no range; write batch=1..1024 or batch=32..1024:32"));
  const std::int64_t first = number(rest.substr(kName.size(), dots - kName.size()), typed);
  rest.remove_prefix(dots + 2);
  const std::size_t colon = rest.find(':');
  const std::int64_t last = number(rest.substr(0, colon), typed);
  const std::int64_t step =
      colon == std::string_view::npos ? 0 : number(rest.substr(colon + 1), typed);
  if (last < first)
    throw ArgumentError(
        text("--sweep: ", first, " is more than ", last, "; write the smaller first"));
  if (step > 0 && (last - first) / step >= static_cast<std::int64_t>(kMostRows))
    throw ArgumentError(
        text("--sweep: more than ", kMostRows, " rows; take a larger step than ", step));
  std::vector<std::int64_t> batches;
  for (std::int64_t batch = first; batch < last;
       batch = step == 0 ? 2 * batch : batch - batch % step + step)
    batches.push_back(batch);
  batches.push_back(last);
  return batches;
}

int answer_what_if(const WhatIfFlags& flags, const Question& question) {
  if (!flags.max_batch.empty()) return print_max_batch(flags.max_batch, question);
  return flags.smallest ? print_smallest(question) : print_sweep(flags.sweep, question);
}

}  // namespace poolgrad::cli
