// Times candidates. Values are such that no sum becomes subnormal or infinite.
#include "engine/tuner.h"

#include <algorithm>
#include <chrono>

#include "engine/backend/one_thread.h"
#include "memory/arena.h"
#include "memory/resource.h"

namespace poolgrad {
namespace {

constexpr double kSample =
    100e-6;                       // seconds that a sample takes at least: many runs of a small one
constexpr double kShare = 20e-3;  // seconds for each candidate
constexpr int kLeast = 3, kMost = 41;  // samples of each
constexpr double kHopeless = 1.5;      // so many times the fastest's first: not timed again
constexpr double kMargin = 0.97;

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Bytes for all operands of a site and a workspace; an output that is an input shares its bytes.
class Operands {
 public:
  Operands(const Site& site, int updates, std::size_t workspace_bytes) {
    std::size_t bytes = memory::aligned(workspace_bytes);
    const auto place = [&bytes](const Spec& spec) {
      return std::exchange(bytes, bytes + memory::aligned(spec.bytes()));
    };
    std::vector<std::size_t> outputs, inputs;
    for (const Spec& spec : site.outputs) outputs.push_back(place(spec));
    for (std::size_t i = 0; i < site.inputs.size(); ++i)
      inputs.push_back(i < static_cast<std::size_t>(updates) ? outputs[i] : place(site.inputs[i]));
    arena_.emplace(std::make_shared<memory::HostResource>(), bytes);
    auto* values = reinterpret_cast<float*>(arena_->at(0));
    for (std::size_t i = 0; i < bytes / sizeof(float); ++i)  // all candidates take floats only
      values[i] = static_cast<float>((i * 2654435761U >> 7U) % 1024) / 1024.0F - 0.5F;
    for (const std::size_t at : inputs) inputs_.push_back(arena_->at(at));
    for (const std::size_t at : outputs) outputs_.push_back(arena_->at(at));
    scratch_ = arena_->at(0);
  }

  void run(const Kernel& kernel) const { kernel.run({inputs_.data(), outputs_.data(), &scratch_}); }

 private:
  std::optional<memory::Arena> arena_;
  std::vector<void*> inputs_, outputs_;
  void* scratch_ = nullptr;
};

/// A candidate while it is timed.
struct Runner {
  std::optional<Kernel> kernel;
  int runs = 1;  // in a sample
  std::vector<double> samples{};

  /// Seconds of one run.
  double sample(const Operands& operands) {
    const Clock::time_point begin = Clock::now();
    for (int i = 0; i < runs; ++i) operands.run(*kernel);
    return seconds_since(begin) / runs;
  }
  [[nodiscard]] double median() {
    const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
    std::ranges::nth_element(samples, middle);
    return *middle;
  }
};

/// In the order of `candidates`.
std::vector<Runner> timed(const Candidates& candidates, const Site& site, int updates) {
  std::vector<Runner> runners;
  std::size_t workspace = 0;
  for (const Candidate& candidate : candidates.best_first) {
    runners.push_back({candidate.make()});
    if (runners.back().kernel)
      workspace = std::max(workspace, runners.back().kernel->workspace_bytes);
  }
  const Operands operands(site, updates, workspace);
  double fastest = 1e9;
  std::vector<Runner*> racing;
  for (Runner& runner : runners) {
    if (!runner.kernel) continue;
    (void)runner.sample(operands);  // code and bytes become warm
    const double first = runner.sample(operands);
    runner.samples.push_back(first);
    fastest = std::min(fastest, first);
    runner.runs = static_cast<int>(kSample / std::max(first, 1e-7)) + 1;
    racing.push_back(&runner);
  }
  std::erase_if(racing, [&](Runner* r) { return r->samples[0] > kHopeless * fastest + 1e-6; });
  if (racing.size() < 2) return runners;
  for (Runner* runner : racing) runner->samples.clear();
  const Clock::time_point begin = Clock::now();
  const double share = kShare * static_cast<double>(racing.size());
  for (int i = 0; i < kMost && (i < kLeast || seconds_since(begin) < share); ++i)
    for (Runner* runner : racing) runner->samples.push_back(runner->sample(operands));
  return runners;
}

Tuning::Line measured(const Candidates& candidates, const Site& site, int updates) {
  const OneThread guard;
  std::vector<Runner> runners = timed(candidates, site, updates);
  Tuning::Line line;
  double best = 0.0;
  for (std::size_t i = 0; i < runners.size(); ++i) {
    line.times.push_back({std::string(candidates.best_first[i].name)});
    if (!runners[i].kernel) continue;
    const double us = 1e6 * runners[i].median();
    line.times.back().us = us;
    // The first is the rule's choice, and has to be beaten by a margin; the others by each other.
    if (line.chosen.empty() || us < best) {
      best = line.chosen.empty() ? kMargin * us : us;
      line.chosen = line.times.back().candidate;
    }
  }
  return line;
}

/// What the line chooses, or of what is allowed the fastest; nullptr: it knows none of them.
const Candidate* choice(const Tuning::Line& line, const std::vector<Candidate>& allowed) {
  const auto chosen = std::ranges::find(allowed, line.chosen, &Candidate::name);
  if (chosen != allowed.end()) return &*chosen;
  const Candidate* best = nullptr;
  double least = 0.0;
  for (const Candidate& candidate : allowed) {
    const auto time = std::ranges::find(line.times, candidate.name, &Tuning::Time::candidate);
    if (time == line.times.end() || !time->us || (best != nullptr && *time->us >= least)) continue;
    best = &candidate;
    least = *time->us;
  }
  return best;
}

bool knows_all(const Tuning::Line* line, const std::vector<Candidate>& candidates) {
  return line != nullptr && std::ranges::all_of(candidates, [line](const Candidate& candidate) {
           return line->has(candidate.name);
         });
}

void measure_into(Tuning& tuning, const OpDef& op, const Candidates& candidates, const Site& site) {
  const Clock::time_point begin = Clock::now();
  tuning.set(op.name, candidates.problem, measured(candidates, site, op.updates));
  ++tuning.spent.problems;
  tuning.spent.seconds += seconds_since(begin);
  if (tuning.on_timed) tuning.on_timed(tuning.spent);
}

}  // namespace

Kernel tuned(const OpDef& op, const Site& site, Tuning& tuning, bool measure) {
  const Candidates candidates = op.candidates(site);
  const auto& allowed = candidates.best_first;
  if (allowed.size() == 1) return best(candidates);
  if (measure && !knows_all(tuning.find(op.name, candidates.problem), allowed)) {
    if (tuning.spent.seconds < tuning.limit_seconds) {
      measure_into(tuning, op, candidates, site);
    } else {
      ++tuning.spent.left_out;
    }
  }
  const Tuning::Line* line = tuning.find(op.name, candidates.problem);
  const Candidate* chosen = line == nullptr ? nullptr : choice(*line, allowed);
  if (chosen == nullptr) return best(candidates);
  tuning.use(op.name, candidates.problem, chosen->name);
  if (auto kernel = chosen->make()) return *kernel;
  throw FileError(text(tuning.name(), ": chooses '", chosen->name, "' for ", op.name, " of ",
                       candidates.problem,
                       ", which has no kernel for it here; delete the file to have all problems "
                       "timed again"));
}

}  // namespace poolgrad
