// Drafts programs and looks only at their numbers.
#include "train/what_if.h"

#include <algorithm>
#include <map>

namespace poolgrad::train {
namespace {

/// Without a limit, and without timing kernels: questions are many and want quick answers.
poolgrad::Options for_question(poolgrad::Options options) {
  options.memory_limit_bytes = 0;
  options.measure = false;
  return options;
}

/// With `only_train`, of the first entry alone.
Blueprint drafted(const TaskSpec& spec, const poolgrad::Options& options, std::int64_t batch,
                  bool only_train = false) {
  TaskSpec other = spec;
  other.batch = batch;
  Task task = make_task(other);
  if (only_train) task.entries.resize(1);
  return draft(*task.graph, task.entries, for_question(options));
}

Needs needs_of(const Blueprint& blueprint, std::int64_t batch) {
  return {.batch = batch,
          .peak_bytes = blueprint.predicted_peak_bytes(),
          .lower_bound_bytes = blueprint.lower_bound_bytes(),
          .sum_bytes = blueprint.sum_bytes(),
          .persistent_bytes = blueprint.persistent_bytes};
}

/// Lifetimes of all slots as one number: programs that differ in it differ in more than sizes.
std::uint64_t lifetimes(const Blueprint& blueprint) {
  std::uint64_t hash = 14695981039346656037U;
  const auto mix = [&](int value) {
    hash = (hash ^ static_cast<std::uint32_t>(value)) * 1099511628211U;
  };
  for (const Entry& entry : blueprint.entries) {
    mix(static_cast<int>(entry.requests.size()));
    for (const memory::Request& r : entry.requests) {
      for (const int value : {r.first, r.end, r.member, r.first_phase, r.end_phase}) mix(value);
    }
  }
  return hash;
}

/// Finds the largest batch by lower bounds, which need no offsets, and of "train" alone, as long as
/// it is the entry that decides. What does not fit so does not fit at all; what does is placed,
/// with all entries, before it is believed.
class Search {
 public:
  Search(const TaskSpec& spec, const poolgrad::Options& options, std::size_t limit)
      : spec_(spec), options_(options), limit_(limit) {
    options_.place = false;
  }

  LargestBatch run() {
    std::int64_t top = 1;
    while (!hopeless(top)) top *= 2;
    LargestBatch result{.checked = top};
    result.by_bound = last(1, top);
    if (result.by_bound > 0 && placed(result.by_bound).lower_bound_bytes > limit_) {
      probes_.clear();
      only_train_ = false;  // from here on all entries are looked at
      result.by_bound = last(1, result.by_bound);
    }
    result.at = placed(std::max<std::int64_t>(placed_below(result.by_bound), 1));
    if (result.at.peak_bytes > limit_) result.at.batch = 0;
    result.drafts = drafts_;
    return result;
  }

 private:
  struct Probe {
    std::size_t bound = 0;
    std::uint64_t lifetimes = 0;
  };

  const Probe& probe(std::int64_t batch) {
    const auto [at, fresh] = probes_.try_emplace(batch);
    if (fresh) {
      ++drafts_;
      const Blueprint blueprint = drafted(spec_, options_, batch, only_train_);
      at->second = {blueprint.lower_bound_bytes(), train::lifetimes(blueprint)};
    }
    return at->second;
  }
  [[nodiscard]] bool fits(std::int64_t batch) { return probe(batch).bound <= limit_; }
  [[nodiscard]] bool hopeless(std::int64_t batch) { return probe(batch).bound / 4 > limit_; }

  /// Whether even the program of `high` would not fit at `low`. Slots have a fixed part and one
  /// that grows with the batch, so no bound shrinks faster than the batch.
  [[nodiscard]] bool too_steep(std::int64_t low, std::int64_t high) {
    const double share = static_cast<double>(low) / static_cast<double>(high);
    return share >= 0.5 &&
           static_cast<double>(probe(high).bound) * share > static_cast<double>(limit_);
  }

  /// The largest of [low, high] whose bound fits; 0: none.
  std::int64_t last(std::int64_t low, std::int64_t high) {
    if (fits(high)) return high;
    if (low == high || hopeless(low)) return 0;
    if (!fits(low) && (probe(low).lifetimes == probe(high).lifetimes || too_steep(low, high)))
      return 0;
    const std::int64_t middle = low + (high - low) / 2;
    const std::int64_t above = last(middle + 1, high);
    return above > 0 ? above : last(low, middle);
  }

  /// The largest batch up to `high` whose plan fits; 0: none. Plans that miss their bound are no
  /// smoother than the luck of placing: the nearest batches are tried one by one, then in growing
  /// strides, and the last stride is halved.
  std::int64_t placed_below(std::int64_t high) {
    constexpr std::int64_t kOneByOne = 16;
    const auto fitting = [&](std::int64_t batch) {
      return fits(batch) && placed(batch).peak_bytes <= limit_;
    };
    std::int64_t low = high, too_large = high + 1, stride = 1;
    while (low > 0 && !fitting(low)) {
      too_large = low;
      if (high - low >= kOneByOne) stride *= 2;
      low = std::max<std::int64_t>(low - stride, 0);
    }
    while (low + 1 < too_large) {
      const std::int64_t middle = low + (too_large - low) / 2;
      (fitting(middle) ? low : too_large) = middle;
    }
    return low;
  }

  const Needs& placed(std::int64_t batch) {
    const auto [at, fresh] = placed_.try_emplace(batch);
    if (fresh) {
      ++drafts_;
      poolgrad::Options options = options_;
      options.place = true;
      at->second = needs_of(drafted(spec_, options, batch), batch);
    }
    return at->second;
  }

  const TaskSpec& spec_;
  poolgrad::Options options_;
  std::size_t limit_;
  bool only_train_ = true;
  std::map<std::int64_t, Probe> probes_;
  std::map<std::int64_t, Needs> placed_;
  int drafts_ = 0;
};

}  // namespace

Needs needs(const TaskSpec& spec, const poolgrad::Options& options, std::int64_t batch) {
  return needs_of(drafted(spec, options, batch), batch);
}

std::vector<Needs> sweep(const TaskSpec& spec, const poolgrad::Options& options,
                         std::span<const std::int64_t> batches) {
  std::vector<Needs> rows;
  for (const std::int64_t batch : batches) rows.push_back(needs(spec, options, batch));
  return rows;
}

LargestBatch largest_batch(const TaskSpec& spec, const poolgrad::Options& options,
                           std::size_t limit_bytes) {
  if (options.budget_bytes > 0)
    throw ArgumentError(text("largest_batch: options have a budget of ", options.budget_bytes,
                             " bytes, within which a plan no longer grows with the batch; ask "
                             "without one"));
  return Search(spec, options, limit_bytes).run();
}

std::vector<Setting> settings_by_peak(const TaskSpec& spec, const poolgrad::Options& options) {
  std::vector<Setting> result;
  for (const int threads : {1, options.threads}) {
    if (threads == 1 && !result.empty()) continue;  // the same team twice
    for (int chunks = 1; static_cast<std::int64_t>(chunks) * threads <= spec.batch; chunks *= 2) {
      poolgrad::Options other = options;
      other.threads = threads;
      other.chunks = chunks;
      result.push_back({threads, chunks, needs(spec, other, spec.batch)});
    }
  }
  std::ranges::stable_sort(result, {}, [](const Setting& s) { return s.needs.peak_bytes; });
  return result;
}

std::size_t smallest_budget(const TaskSpec& spec, const poolgrad::Options& options) {
  poolgrad::Options least = options;
  least.budget_bytes = 1;
  try {
    return drafted(spec, least, spec.batch).predicted_peak_bytes();
  } catch (const BudgetError& error) {
    return error.smallest_bytes;
  }
}

}  // namespace poolgrad::train
