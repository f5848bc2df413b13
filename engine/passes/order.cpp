// Depth first over the sets of jobs that are done: how many bytes are alive depends on the set, not
// on the order in which it was done, so a set from which there was no way is remembered. A job that
// needs no more than allowed and leaves no more than it found is done at once: whoever waits with
// it gains nothing, because with more jobs done no job needs more bytes or leaves more.
#include "engine/passes/order.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <set>

namespace poolgrad::passes {
namespace {

constexpr std::size_t kHalf = 12;  // jobs before the fullest place that change theirs at first

enum class Found : std::uint8_t { order, none, stopped };

std::size_t row(int id) { return static_cast<std::size_t>(id); }
std::ptrdiff_t offset(std::size_t place) { return static_cast<std::ptrdiff_t>(place); }

/// What has been done so far, and what a job would do to the bytes.
class State {
 public:
  explicit State(const Jobs& jobs)
      : jobs_(jobs), blocks_of_(jobs.all.size()), left_(jobs.blocks.size()) {
    for (std::size_t b = 0; b < jobs.blocks.size(); ++b) {
      left_[b] = static_cast<int>(jobs.blocks[b].users.size());
      for (const int user : jobs.blocks[b].users)
        blocks_of_[row(user)].push_back(static_cast<int>(b));
    }
  }

  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  /// Bytes while `job` runs, and after it.
  struct Effect {
    std::size_t during, after;
  };
  [[nodiscard]] Effect effect(int job) const {
    const Job& what = jobs_.all[row(job)];
    std::size_t born = 0, dies = 0;
    for (const int b : blocks_of_[row(job)]) {
      const Block& block = jobs_.blocks[row(b)];
      if (left_[row(b)] == static_cast<int>(block.users.size())) born += block.bytes;
      if (left_[row(b)] == 1) dies += block.bytes;
    }
    const bool in_place = what.gives >= 0 && left_[row(what.gives)] == 1;
    const std::size_t twice = in_place ? jobs_.blocks[row(what.gives)].bytes : 0;
    return {bytes_ + born + what.inside - twice, bytes_ + born - dies};
  }
  void run(int job) {
    bytes_ = effect(job).after;
    for (const int b : blocks_of_[row(job)]) --left_[row(b)];
  }
  void undo(int job) {
    for (const int b : blocks_of_[row(job)]) ++left_[row(b)];
    const Effect then = effect(job);
    bytes_ -= then.after - bytes_;  // modulo: what it added may be negative
  }

 private:
  const Jobs& jobs_;
  std::vector<std::vector<int>> blocks_of_;
  std::vector<int> left_;  // block -> users to come
  std::size_t bytes_ = 0;
};

/// Another order of the jobs at [first, end) of an order, all others staying where they are.
class Search {
 public:
  Search(const Jobs& jobs, std::span<const int> order, std::size_t first, std::size_t end)
      : state_(jobs),
        window_(order.subspan(first, end - first)),
        after_(window_.size()),
        waits_for_(window_.size()),
        done_((window_.size() + 63) / 64) {
    for (std::size_t i = 0; i < first; ++i) state_.run(order[i]);
    std::vector<int> place(jobs.all.size(), -1);
    for (std::size_t i = 0; i < window_.size(); ++i) place[row(window_[i])] = static_cast<int>(i);
    for (std::size_t i = 0; i < window_.size(); ++i) {
      for (const int job : jobs.all[row(window_[i])].before) {
        if (place[row(job)] < 0) continue;
        after_[row(place[row(job)])].push_back(static_cast<int>(i));
        ++waits_for_[i];
      }
    }
    for (std::size_t i = 0; i < window_.size(); ++i) {
      if (waits_for_[i] == 0) ready_.push_back(static_cast<int>(i));
    }
  }

  /// Whether there is an order with at most `most` bytes alive at each place; it is then done().
  /// `trials` counts jobs that are placed, up to `most_trials`.
  Found find(std::size_t most, int most_trials, int& trials) {
    most_ = most;
    trials_ = &trials;
    while (true) {
      run_free();
      if (ran_.size() == window_.size()) return Found::order;
      if (trials > most_trials) return Found::stopped;
      if (!failed_.contains(done_)) branches_.push_back({ran_.size(), candidates()});
      while (!branches_.empty() && branches_.back().next.empty()) {
        undo_to(branches_.back().ran);
        failed_.insert(done_);
        branches_.pop_back();
      }
      if (branches_.empty()) return Found::none;
      undo_to(branches_.back().ran);
      const int next = branches_.back().next.back();
      branches_.back().next.pop_back();
      run(next);
    }
  }
  [[nodiscard]] std::vector<int> done() const {
    std::vector<int> result;
    for (const int i : ran_) result.push_back(window_[row(i)]);
    return result;
  }

 private:
  /// A set from which jobs can go on in several ways.
  struct Branch {
    std::size_t ran;
    std::vector<int> next;  // the best one last
  };

  [[nodiscard]] State::Effect effect(int i) const { return state_.effect(window_[row(i)]); }
  void run_free() {
    for (bool any = true; any;) {
      any = false;
      for (const int i : ready_) {
        const State::Effect then = effect(i);
        if (then.during > most_ || then.after > state_.bytes()) continue;
        run(i);
        any = true;
        break;
      }
    }
  }
  /// Whoever leaves the fewest bytes is tried first; of equal ones whoever came first.
  [[nodiscard]] std::vector<int> candidates() const {
    std::vector<std::pair<std::size_t, int>> all;
    for (const int i : ready_) {
      const State::Effect then = effect(i);
      if (then.during <= most_) all.emplace_back(then.after, i);
    }
    std::ranges::sort(all, std::greater{});
    std::vector<int> result;
    for (const auto& [bytes, i] : all) result.push_back(i);
    return result;
  }
  void run(int i) {
    ++*trials_;
    state_.run(window_[row(i)]);
    ran_.push_back(i);
    done_[row(i) / 64] |= std::uint64_t{1} << (row(i) % 64);
    ready_.erase(std::ranges::lower_bound(ready_, i));
    for (const int later : after_[row(i)]) {
      if (--waits_for_[row(later)] == 0)
        ready_.insert(std::ranges::lower_bound(ready_, later), later);
    }
  }
  void undo_to(std::size_t count) {
    while (ran_.size() > count) {
      const int i = ran_.back();
      ran_.pop_back();
      for (const int later : after_[row(i)]) {
        if (waits_for_[row(later)]++ == 0) ready_.erase(std::ranges::lower_bound(ready_, later));
      }
      ready_.insert(std::ranges::lower_bound(ready_, i), i);
      done_[row(i) / 64] &= ~(std::uint64_t{1} << (row(i) % 64));
      state_.undo(window_[row(i)]);
    }
  }

  State state_;
  std::span<const int> window_;
  std::vector<std::vector<int>> after_;  // by place in the window, as all below
  std::vector<int> waits_for_, ready_, ran_;
  std::vector<std::uint64_t> done_;
  std::set<std::vector<std::uint64_t>> failed_;
  std::vector<Branch> branches_;
  std::size_t most_ = 0;
  int* trials_ = nullptr;
};

}  // namespace

std::vector<std::size_t> alive(const Jobs& jobs, std::span<const int> order) {
  State state(jobs);
  std::vector<std::size_t> result;
  for (const int job : order) {
    result.push_back(state.effect(job).during);
    state.run(job);
  }
  return result;
}

Order lower_peak(const Jobs& jobs, std::vector<int> order, int most_trials) {
  Order result{.jobs = order};
  std::vector<std::size_t> bytes = alive(jobs, order);
  result.peak = bytes.empty() ? 0 : *std::ranges::max_element(bytes);
  result.best = result.peak == 0;
  while (!result.best && result.trials < most_trials) {
    const auto fullest = static_cast<std::size_t>(std::ranges::max_element(bytes) - bytes.begin());
    auto found = Found::none;
    for (std::size_t half = kHalf; found != Found::order; half *= 4) {
      const std::size_t first = fullest - std::min(fullest, half),
                        end = std::min(fullest + half, order.size());
      const int most_here = std::min(most_trials / 4, most_trials - result.trials);
      if (static_cast<int>(end - first) > most_here) break;
      Search search(jobs, order, first, end);
      found = search.find(bytes[fullest] - 1, result.trials + most_here, result.trials);
      if (found == Found::order) std::ranges::copy(search.done(), order.begin() + offset(first));
      if (end - first < order.size()) continue;
      result.best = found == Found::none;
      break;
    }
    if (found != Found::order) break;
    bytes = alive(jobs, order);
    const std::size_t peak = *std::ranges::max_element(bytes);
    if (peak < result.peak) result.peak = peak, result.jobs = order;
  }
  return result;
}

}  // namespace poolgrad::passes
