// Between runs whole tensors are alive, within one the rows of a part: that is all it counts.
#include "engine/passes/recompute_estimate.h"

#include <iterator>

#include "engine/cost.h"
#include "memory/arena.h"

namespace poolgrad::passes {
namespace {

constexpr std::size_t kLeast = 1000;  // times a storage is more than the largest: it counts

std::size_t row(int id) { return static_cast<std::size_t>(id); }

}  // namespace

Estimator::Estimator(const Graph& graph, const Walk& walk, int members)
    : walk_(walk), members_(members) {
  for (const Node& node : walk.nodes)
    us_.push_back(node.outputs.empty() ? 0.0 : modelled_us(graph, node));
  std::size_t largest = 0;
  for (const Storage& storage : walk.storages.all) {
    if (storage.persistent < 0) largest = std::max(largest, storage.bytes);
  }
  for (const Storage& storage : walk.storages.all) {
    const bool counts = storage.persistent < 0 && storage.bytes * kLeast > largest;
    life_of_.push_back(counts ? static_cast<int>(bytes_.size()) : -1);
    if (counts) bytes_.push_back(static_cast<double>(memory::aligned(storage.bytes)));
  }
  for (int i = 0; i < static_cast<int>(walk.nodes.size()); ++i) {
    const Node& node = walk.nodes[row(i)];
    Operands& operands = operands_.emplace_back();
    if (node.op->view != nullptr) continue;
    const auto counts = [&](int id) { return life_of(id) >= 0; };
    std::ranges::copy_if(node.outputs, std::back_inserter(operands.outputs), counts);
    std::ranges::copy_if(walk.reads(i), std::back_inserter(operands.reads), counts,
                         &Walk::Read::id);
    std::ranges::copy_if(node.inputs, std::back_inserter(operands.inputs), [&](int id) {
      return counts(id) && std::ranges::count(walk.reads(i), id, &Walk::Read::id) == 0;
    });
  }
}

double Estimator::bytes_of(int node) const {
  double sum = 0.0;
  for (const int id : operands_[row(node)].outputs) sum += bytes_[row(life_of(id))];
  return sum;
}

double Estimator::us(const std::vector<Saved>& saved, const Times& times) {
  walk_.turns(saved, times, turns_);
  double sum = 0.0;
  for (const Turn& turn : turns_.all()) sum += turn.again ? us_[row(turn.node)] : 0.0;
  return sum;
}

Estimate Estimator::estimate(const std::vector<Saved>& saved, const Times& times) {
  Estimate result;
  result.us = us(saved, times);
  lives_.clear();
  for (const double bytes : bytes_) lives_.push_back({bytes});
  for (const double bytes : bytes_) lives_.push_back({bytes});  // made again once
  each_.assign(bytes_.size(), {-1, 0});
  int time = 0;
  for (int r = 0; r < static_cast<int>(walk_.runs.size()); ++r) {
    for (const Turn& turn : turns_.of(r)) note(turn, r, time++, saved);
  }
  result.peak = peaks();
  return result;
}

void Estimator::note(const Turn& turn, int r, int time, const std::vector<Saved>& saved) {
  const Operands& operands = operands_[row(turn.node)];
  const bool reads_again = turn.again || walk_.backward(turn.node);
  const auto use = [&](int id, bool again, bool now) {
    Life& life = lives_[row(again ? made_again(id, r, now, saved) : life_of(id))];
    if (life.run < 0) life.run = r, life.time = time, life.whole = turn.before;
    life.last_run = r, life.last_time = time;
  };
  for (const int id : operands.inputs) use(id, false, false);
  for (const Walk::Read& read : operands.reads)
    use(read.id, reads_again && !Walk::original(read, turn.place, saved), false);
  for (const int id : operands.outputs) use(id, turn.again, true);
}
/// The life of what is made again of a storage: one for all runs, one for each, or the one that is
/// made `now`.
int Estimator::made_again(int id, int r, bool now, const std::vector<Saved>& saved) {
  const int life = life_of(id), made_by = walk_.maker[row(walk_.storages.of[row(id)])];
  if (saved[row(made_by)] == Saved::once) return static_cast<int>(bytes_.size()) + life;
  auto& [run, own] = each_[row(life)];
  if (saved[row(made_by)] == Saved::timed ? now : run != r) {
    run = r, own = static_cast<int>(lives_.size());
    lives_.push_back({bytes_[row(life)]});
  }
  return own;
}

/// What lives beyond the run of each node, and at the node what lives in the run alone.
std::vector<double> Estimator::peaks() {
  note_changes();
  std::vector<double> result(walk_.nodes.size());
  double alive = 0.0, within = 0.0;
  std::size_t time = 0;
  for (std::size_t r = 0; r < walk_.runs.size(); ++r) {
    alive += born_[r];
    // Part by part, what a run reads dies as what it makes is born.
    const double twice = walk_.runs[r].parts == 1 ? 0.0 : std::min(born_[r], dies_[r]);
    for (const Turn& turn : turns_.of(static_cast<int>(r))) {
      within += inside_[time++];
      double& peak = result[row(turn.place)];
      peak = std::max(peak, alive - twice + within);
    }
    alive -= dies_[r];
  }
  return result;
}

void Estimator::note_changes() {
  born_.assign(walk_.runs.size(), 0.0);
  dies_.assign(walk_.runs.size(), 0.0);
  inside_.assign(turns_.all().size() + 1, 0.0);
  for (const Life& life : lives_) {
    if (life.run < 0) continue;
    if (life.run != life.last_run) {
      born_[row(life.run)] += life.bytes;
      dies_[row(life.last_run)] += life.bytes;
      continue;
    }
    const int parts = life.whole ? 1 : walk_.runs[row(life.run)].parts;
    const double bytes = parts == 1 ? life.bytes : life.bytes * members_ / parts;
    inside_[row(life.time)] += bytes;
    inside_[row(life.last_time) + 1] -= bytes;
  }
}

}  // namespace poolgrad::passes
