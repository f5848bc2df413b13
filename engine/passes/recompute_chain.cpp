// Turns the walk into links (checkpoints.h) and what is found back into places. A backward step
// begins with the first reader of the value before its link, so that what reads a link's own value
// (ReLU's gradient does) belongs to the step of the next link.
#include "engine/passes/recompute_chain.h"

#include <algorithm>
#include <set>

#include "engine/passes/checkpoints.h"

namespace poolgrad::passes {
namespace {

constexpr std::int64_t kUnits = 256;  // in which all values are counted

std::size_t row(int id) { return static_cast<std::size_t>(id); }

class Chain {
 public:
  Chain(const Walk& walk, Estimator& estimator, const std::vector<int>& nodes, int members)
      : walk_(walk),
        estimator_(estimator),
        members_(members),
        value_of_(walk.nodes.size(), -1),
        place_of_(walk.nodes.size()) {
    int place = 0;
    for (const Run& run : walk.runs)
      for (const CutNode& cut : run.nodes) place_of_[row(cut.node)] = place++;
    for (const int node : nodes) {
      if (walk.usual[row(node)] == Saved::each) continue;
      value_of_[row(node)] = static_cast<int>(values_.size());
      values_.push_back({.node = node});
    }
  }

  /// Whether each value is made of no other than the one before it, and read after all behind it.
  bool close() {
    for (int v = 0; v < count(); ++v) {
      for (const int from : sources_of(value(v).node).values)
        if (from != v - 1) return false;
    }
    for (const Run& run : walk_.runs)
      for (const CutNode& cut : run.nodes)
        if (walk_.backward(cut.node)) note_reads(cut.node);
    for (int v = 0; v < count(); ++v) {
      if (value(v).first_read < 0) return false;
      if (v > 0 && value(v).last_read >= value(v - 1).first_read) return false;
    }
    return count() > 1;
  }

  std::vector<Choice> choices() {
    std::vector<Choice> result;
    const std::vector<Link> all = links();
    std::int64_t bytes = 0;
    for (const Link& link : all) bytes += link.bytes;
    for (const Checkpoints& found : checkpoints(all, std::max<std::int64_t>(1, bytes / kUnits)))
      result.push_back(choice(found));
    return result;
  }

 private:
  struct Value {
    int node = 0;
    int first_read = -1, last_read = -1;  // places in the backward pass
  };
  [[nodiscard]] int count() const { return static_cast<int>(values_.size()); }
  [[nodiscard]] const Value& value(int v) const { return values_[row(v)]; }

  /// What a node reads, back to values: those, and the nodes on the way, each once.
  struct Sources {
    std::set<int> values, on_the_way;
  };
  void follow(int node, Sources& found) const {
    for (const int id : walk_.nodes[row(node)].inputs) {
      const int from = walk_.producer[row(id)];
      if (from < 0 || walk_.backward(from)) continue;
      if (value_of_[row(from)] >= 0) {
        found.values.insert(value_of_[row(from)]);
      } else if ((walk_.nodes[row(from)].op->view != nullptr ||
                  walk_.usual[row(from)] != Saved::kept) &&
                 found.on_the_way.insert(from).second) {
        follow(from, found);
      }
    }
  }
  [[nodiscard]] Sources sources_of(int node) const {
    Sources found;
    follow(node, found);
    return found;
  }
  void note_reads(int node) {
    if (walk_.nodes[row(node)].op->view != nullptr) return;
    for (const int v : sources_of(node).values) {
      Value& read = values_[row(v)];
      const int place = place_of_[row(node)];
      if (read.first_read < 0) read.first_read = place;
      read.last_read = std::max(read.last_read, place);
    }
  }

  /// As the estimator counts: rows of a part where maker and readers are in one run.
  [[nodiscard]] std::int64_t bytes_of(int node, int reading_run) const {
    const double bytes = estimator_.bytes_of(node);
    const int r = walk_.run_of[row(node)];
    const int parts = r < 0 ? 1 : walk_.runs[row(r)].parts;
    const bool within = parts > 1 && reading_run == r;
    return static_cast<std::int64_t>(within ? bytes * members_ / parts : bytes);
  }
  [[nodiscard]] std::int64_t bytes_of(int v) const {
    return bytes_of(value(v).node, run_at(value(v).last_read));
  }
  [[nodiscard]] int run_at(int place) const {
    int r = 0;
    for (int end = 0; r < static_cast<int>(walk_.runs.size()); ++r) {
      end += static_cast<int>(walk_.runs[row(r)].nodes.size());
      if (place < end) break;
    }
    return r;
  }

  /// Per place of the backward pass, what is alive there and is none of the values.
  [[nodiscard]] std::vector<std::int64_t> others() {
    std::vector<std::int64_t> result;
    for (const double bytes : estimator_.estimate(walk_.usual).peak)
      result.push_back(static_cast<std::int64_t>(bytes));
    std::vector<int> run_of_place;
    for (int r = 0; r < static_cast<int>(walk_.runs.size()); ++r)
      run_of_place.insert(run_of_place.end(), walk_.runs[row(r)].nodes.size(), r);
    for (int v = 0; v < count(); ++v) {
      const bool once = walk_.usual[row(value(v).node)] == Saved::once;
      const int first = once ? value(v).first_read : place_of_[row(value(v).node)];
      const int last = value(v).last_read;
      const bool across = run_of_place[row(first)] != run_of_place[row(last)];
      // Nodes that move nothing have no place, so there are fewer places than nodes.
      for (int p = 0; p < static_cast<int>(run_of_place.size()); ++p) {
        const int r = run_of_place[row(p)];
        const bool there = across ? run_of_place[row(first)] <= r && r <= run_of_place[row(last)]
                                  : first <= p && p <= last;
        if (there) result[row(p)] = std::max<std::int64_t>(0, result[row(p)] - bytes_of(v));
      }
    }
    return result;
  }

  /// One for each value, and one for what comes behind the last.
  [[nodiscard]] std::vector<Link> links() {
    const std::vector<std::int64_t> beside = others();
    std::vector<Link> result;
    for (int v = 0; v <= count(); ++v) {
      Link link;
      if (v < count()) {
        link.us = estimator_.us_of(value(v).node);
        link.bytes = bytes_of(v);
        for (const int node : sources_of(value(v).node).on_the_way) {
          link.us += estimator_.us_of(node);
          link.making += bytes_of(node, walk_.run_of[row(value(v).node)]);
        }
      }
      if (v > 0) {
        const int begin = value(v - 1).first_read;
        const int end = v > 1 ? value(v - 2).first_read : value(0).last_read + 1;
        link.waiting = beside[row(begin)];
        link.backward = *std::max_element(beside.begin() + begin, beside.begin() + end);
      }
      result.push_back(link);
    }
    return result;
  }

  /// Links count from 1, the last of them behind all values.
  [[nodiscard]] Choice choice(const Checkpoints& found) const {
    Choice result{.saved = walk_.usual, .times = Times(walk_.nodes.size())};
    for (int v = 0; v < count(); ++v) {
      const std::vector<int>& steps = found.again[row(v)];
      const int node = value(v).node;
      result.saved[row(node)] = steps.empty() ? Saved::kept : Saved::timed;
      for (const int step : steps) result.times[row(node)].push_back(value(step - 2).first_read);
    }
    return result;
  }

  const Walk& walk_;
  Estimator& estimator_;
  int members_;
  std::vector<Value> values_;
  std::vector<int> value_of_, place_of_;  // node -> value, or -1; node -> place
};

}  // namespace

std::vector<Choice> chain_choices(const Walk& walk, Estimator& estimator,
                                  const std::vector<int>& nodes, int members) {
  Chain chain(walk, estimator, nodes, members);
  return chain.close() ? chain.choices() : std::vector<Choice>{};
}

}  // namespace poolgrad::passes
