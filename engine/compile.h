// draft(): graph -> passes -> kernels -> plan, all by arithmetic: no tensor has bytes yet. Program
// (program.h) takes the one block and runs.
#pragma once

#include <functional>
#include <memory>

#include "engine/array.h"
#include "engine/graph.h"
#include "engine/liveness.h"
#include "memory/plan.h"

namespace poolgrad {

/// A named way to run a program: whatever its roots need. Roots are kept.
struct EntryPoint {
  std::string name;
  std::vector<Tensor> roots;
  /// Appends what belongs to this entry alone (backward and update nodes) to its own copy of the
  /// graph, after fusing, and answers the ids that are needed beside the roots. May be empty.
  std::function<std::vector<int>(Graph&)> append{};
};

/// Where planned tensors get their bytes: offsets known at compile, or asked for while the program
/// runs, from a pool or from the resource itself. The same nodes, kernels and bits in all three.
enum class Memory : std::uint8_t { planned, pooled, direct };
[[nodiscard]] std::string to_string(Memory memory);

class Program;
class Tuning;
class Launcher;

struct Options {
  /// A device with memory of its own settles some of the rest: one member, whole batches, updates
  /// by nodes of their own.
  Device device{};
  std::shared_ptr<Launcher> launcher{};  // of such a device; empty: made by draft()
  Memory memory = Memory::planned;
  memory::Resource* resource =
      nullptr;      // nullptr: the heap. Must outlive the program and its exports
  int threads = 1;  // members of the team. Part of the arithmetic: sums are added up per member
  int chunks = 0;   // goes in which a member takes its rows; 0: as the sizes of activations suggest
  bool use_team = true;  // false: the calling thread runs all members' shares, with the same bits
  bool adaptive = true;  // while that is faster, the calling thread does so anyway
  bool replay = true;    // on a device, planned: steps are recorded once, not issued node by node

  /// bf16 or f16: what activations and their gradients are kept as, and what products read.
  /// Weights, their gradients and moments stay f32, as do losses and statistics
  /// (passes::precision). f32: all is. In f16 small gradients vanish, unless the loss is scaled
  /// (train/grad_scaler.h).
  DType precision = DType::f32;

  // Passes that can be switched off. fuse_updates and features (cuts along rows of weights instead
  // of the batch: passes/features.h) change how sums are rounded. The others change
  // no bit by themselves, but where work is done in chunks, fuse and layout decide with what else
  // it is cut, and so in which order sums over rows are added up.
  bool fuse = true, fuse_updates = true, layout = true, recompute = true, schedule = true,
       in_place = true, order = true, features = true;

  /// Convolutions of 3 by 3 windows by Winograd's tiles where that is faster. Plain sums are
  /// slower and round less.
  bool winograd = true;

  /// Measured times (tuning.h) that choose among the implementations of an op, instead of rules.
  /// What the table lacks is timed while the program is drafted, and added to it; with `measure`
  /// off it goes by the rules, as all does where there is no table. The choice changes rounding and
  /// workspaces, which are planned: one table, one program. Threads that draft at once need a table
  /// each.
  std::shared_ptr<Tuning> tuning{};
  bool measure = true;

  bool place = true;  // false: only lower bounds are found, for questions; no Program can be made

  std::size_t memory_limit_bytes =
      0;  // 0: none. A larger arena is a MemoryError before any allocation
  /// 0: none. The most that planned memory may take: what the backward pass reads is then made
  /// again instead of kept, as far as needed and with the same bits. Chunks and layout stay as they
  /// are.
  std::size_t budget_bytes = 0;
  std::size_t guard_bytes = 0;  // behind the arena, watched by Program::guards_intact()

  /// Persistent tensors with the same column, name and spec in this program are used in place:
  /// weights and moments are shared, and only inputs, settings (the learning rate), kept tensors
  /// and scratch are new. It may be destroyed before this one: its arena stays.
  const Program* share = nullptr;
};

/// A node ready to run, and the storages that begin or end with it. Equal nodes of one member share
/// a kernel.
struct Step {
  int node = 0;
  int member = 0;
  int phase = 0;
  std::shared_ptr<const Kernel> kernel{};
  int workspace = -1;               // its storage, or -1
  std::vector<int> born{}, dead{};  // storages this member alone touches
};

/// Storages that several members touch: taken before a phase, given back after it.
struct Edge {
  std::vector<int> born{}, dead{};
};

struct Entry {
  std::string name;
  std::unique_ptr<const Graph>
      graph;            // after all passes; rows of the caller's tensors are unchanged
  Storages storages{};  // workspaces are the last ones
  std::vector<memory::Request> requests{};  // one per storage; those not planned ask for 0 bytes
  memory::Plan plan{};
  std::vector<Step> steps{};  // in an order in which one thread may run them all
  std::vector<Edge> edges{};  // one per phase
  int kernels = 0;            // different ones
  std::size_t sum_bytes = 0;  // of all requests: what the scratch would be without reuse
  int made_again = 0;         // forward nodes done twice to stay within the budget
  double extra_time = 0.0;    // modelled, for that, as a share of the time without a budget
};

/// A program without bytes: what `poolgrad plan` prints.
struct Blueprint {
  Options options{};
  TensorTable tensors{};  // the caller's; roots are kept
  std::vector<std::ptrdiff_t>
      offset{};  // of persistent tensors in the arena; -1: planned, shared or lent
  std::vector<std::ptrdiff_t>
      second_offset{};  // of inputs' second slots (device_run.h); -1 elsewhere, empty on the CPU
  std::vector<Entry> entries{};
  int rows_id = -1;
  std::size_t persistent_bytes = 0;
  std::size_t scratch_bytes = 0;  // of the largest entry

  [[nodiscard]] std::size_t arena_bytes() const { return persistent_bytes + scratch_bytes; }
  [[nodiscard]] std::size_t lower_bound_bytes()
      const;                                    // no plan of these nodes in this order is smaller
  [[nodiscard]] std::size_t sum_bytes() const;  // without any reuse
  /// Planned: the arena. Pooled and direct: the most bytes asked for at one moment; with several
  /// members an upper limit of it.
  [[nodiscard]] std::size_t predicted_peak_bytes() const;
  [[nodiscard]] const Entry& entry(std::string_view name) const;  // throws ArgumentError
  /// Bytes of the columns "parameters" and those of the optimizer's moments.
  [[nodiscard]] std::size_t column_bytes(std::string_view column) const;
};

/// A budget that nothing fits into, whatever is computed again. `smallest_bytes` is feasible.
struct BudgetError : MemoryError {
  BudgetError(std::size_t smallest, std::string what)
      : MemoryError(std::move(what)), smallest_bytes(smallest) {}
  std::size_t smallest_bytes;
};

/// Throws ShapeError for an impossible order, DeviceError for an op without a kernel on the device,
/// ArgumentError for settings out of range, MemoryError for an arena above the limit and for a
/// budget below the smallest that is feasible, which it names.
[[nodiscard]] Blueprint draft(const Graph& graph, const std::vector<EntryPoint>& entries,
                              const Options& options = {});

}  // namespace poolgrad
