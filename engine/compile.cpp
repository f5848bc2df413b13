// Everything that can be known before there are bytes.
#include "engine/compile.h"

#include <algorithm>
#include <map>
#include <set>
#include <span>

#include "engine/backend/halves.h"
#include "engine/backend/one_thread.h"
#include "engine/cost.h"
#include "engine/cuda/launcher.h"
#include "engine/launcher.h"
#include "engine/passes/passes.h"
#include "engine/passes/recompute_runs.h"
#include "engine/program.h"
#include "engine/tuner.h"

namespace poolgrad {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

using passes::Choice;

/// The entry's own graph after all passes but those that a budget decides.
struct Ordered {
  std::unique_ptr<Graph> graph;
  std::vector<passes::Run> runs;
};

Ordered ordered(const Graph& graph, const EntryPoint& entry, const Options& options) {
  auto result = std::unique_ptr<Graph>(new Graph(graph.copy()));
  std::vector<int> roots;
  for (const Tensor& root : entry.roots) roots.push_back(root.id);
  if (options.fuse) passes::fuse(*result);
  if (entry.append) {
    const std::vector<int> more = entry.append(*result);
    roots.insert(roots.end(), more.begin(), more.end());
  }
  passes::drop_dead(*result, roots);
  if (options.precision != DType::f32) passes::precision(*result, options.precision);
  if (options.fuse_updates) passes::fuse_updates(*result);
  passes::layout(*result, options.layout);
  if (options.recompute) {
    if (options.launcher == nullptr) passes::keep_signs(*result);  // its ops have no CUDA kernels
    passes::recompute(*result);
  }
  if (options.schedule) passes::schedule(*result);
  if (const std::string wrong = check_order(*result); !wrong.empty()) throw ShapeError(wrong);
  auto runs = passes::find_runs(*result, {options.threads, options.chunks, options.features});
  return {std::move(result), std::move(runs)};
}

/// Nothing where `choice` has no order.
std::optional<Ordered> recomputed(const Ordered& before, const Choice& choice) {
  Ordered result{std::unique_ptr<Graph>(new Graph(before.graph->copy())), before.runs};
  if (!passes::recompute_runs(*result.graph, result.runs, choice)) return {};
  return result;
}

/// What the addresses of a node's operands are multiples of: views may begin anywhere, and tables
/// lie where their owner has them.
std::size_t alignment_of(const Entry& entry, const Node& node) {
  const TensorTable& tensors = entry.graph->tensors;
  std::size_t bits = memory::kAlignment;
  for (const auto* ids : {&node.inputs, &node.outputs}) {
    for (const int id : *ids) {
      const int owner = entry.storages.all[row(entry.storages.of[row(id)])].persistent;
      const std::ptrdiff_t first = owner < 0 ? 0 : entry.storages.begin[row(owner)];
      bits |= static_cast<std::size_t>(entry.storages.begin[row(id)] - first);
      if (owner >= 0 && tensors.lent(owner)) bits |= size_of(tensors.spec[row(owner)].dtype);
    }
  }
  return bits & ~(bits - 1);  // the lowest one
}

/// Kernels by what they were made for. One set per member, as a primitive holds its addresses.
class Kernels {
 public:
  explicit Kernels(const Options& options) : options_(options) {}

  std::shared_ptr<const Kernel> of(const Entry& entry, const Node& node) {
    const Graph& graph = *entry.graph;
    const auto inputs = graph.specs(node.inputs), outputs = graph.specs(node.outputs);
    const std::size_t alignment =
        options_.launcher ? alignment_of(entry, node) : memory::kAlignment;
    for (const Made& made : made_[node.op]) {
      if (made.member == node.member && made.attributes == node.attributes &&
          made.inputs == inputs && made.outputs == outputs && made.alignment == alignment)
        return made.kernel;
    }
    const Kernel kernel = make(*node.op, {.inputs = inputs,
                                          .outputs = outputs,
                                          .attributes = node.attributes,
                                          .device = options_.device,
                                          .winograd = options_.winograd,
                                          .alignment = alignment});
    made_[node.op].push_back({node.member, node.attributes, inputs, outputs, alignment,
                              std::make_shared<const Kernel>(kernel)});
    return made_[node.op].back().kernel;
  }

 private:
  [[nodiscard]] Kernel make(const OpDef& op, const Site& site) const {
    if (options_.launcher != nullptr) return on_device(op, site);
    if (halves::any(site) && !op.any_dtype)
      return halves::kernel(op, site, [&](const Site& wide) { return make(op, wide); });
    if (options_.tuning && op.candidates != nullptr)
      return tuned(op, site, *options_.tuning, options_.measure);
    if (op.cpu != nullptr) return op.cpu(site);
    throw DeviceError(text("program: op '", op.name, "' has no CPU kernel in this build"));
  }

  /// What fails there, when it is made ready or run, says of which op and shapes.
  [[nodiscard]] Kernel on_device(const OpDef& op, const Site& site) const {
    std::string what = text("op '", op.name, "' of");
    for (const Spec& spec : site.inputs) what += text(" ", spec.shape);
    try {
      Kernel kernel = options_.launcher->prepare(op, site);
      kernel.run = [run = std::move(kernel.run), what](const Args& a) {
        try {
          run(a);
        } catch (const std::exception& error) {
          throw DeviceError(text(what, ": ", error.what()));
        }
      };
      return kernel;
    } catch (const std::exception& error) {
      throw DeviceError(text(what, ": ", error.what()));
    }
  }

  struct Made {
    int member;
    Attributes attributes;
    std::vector<Spec> inputs, outputs;
    std::size_t alignment;
    std::shared_ptr<const Kernel> kernel;
  };
  const Options& options_;
  std::map<const OpDef*, std::vector<Made>> made_;
};

/// Every node that has work to do, with its kernel; a workspace becomes a storage of one step.
void prepare(Entry& entry, Kernels& kernels) {
  const OneThread guard;
  std::set<const Kernel*> different;
  const std::vector<int> phase = phases(*entry.graph, entry.storages);
  for (int i = 0; i < static_cast<int>(entry.graph->nodes.size()); ++i) {
    const Node& node = entry.graph->nodes[row(i)];
    if (node.op->view != nullptr) continue;
    Step step{.node = i,
              .member = node.member,
              .phase = phase[row(i)],
              .kernel = kernels.of(entry, node)};
    if (step.kernel->workspace_bytes > 0) {
      step.workspace = static_cast<int>(entry.storages.all.size());
      entry.storages.all.push_back({step.kernel->workspace_bytes, i, i + 1, -1, node.member});
    }
    different.insert(step.kernel.get());
    entry.steps.push_back(std::move(step));
  }
  entry.kernels = static_cast<int>(different.size());
}

/// Who takes and gives back each planned storage when bytes are asked for at run time, and one
/// request per storage for the plan.
void note_lifetimes(Entry& entry) {
  std::vector<int> step_of(entry.graph->nodes.size(), -1);
  for (std::size_t i = 0; i < entry.steps.size(); ++i)
    step_of[row(entry.steps[i].node)] = static_cast<int>(i);
  entry.edges.resize(entry.steps.empty() ? 0 : row(entry.steps.back().phase) + 1);
  for (int s = 0; s < static_cast<int>(entry.storages.all.size()); ++s) {
    const Storage& storage = entry.storages.all[row(s)];
    entry.requests.emplace_back();
    if (storage.persistent >= 0 || storage.first < 0 || storage.bytes == 0) continue;
    Step& first = entry.steps[row(step_of[row(storage.first)])];
    Step& last = entry.steps[row(step_of[row(storage.end - 1)])];
    entry.requests.back() = {.bytes = storage.bytes,
                             .first = storage.first,
                             .end = storage.end,
                             .member = storage.member,
                             .first_phase = first.phase,
                             .end_phase = last.phase + 1};
    (storage.member >= 0 ? first.born : entry.edges[row(first.phase)].born).push_back(s);
    (storage.member >= 0 ? last.dead : entry.edges[row(last.phase)].dead).push_back(s);
  }
}

/// A plan without offsets, as small as any could be.
memory::Plan unplaced(const std::vector<memory::Request>& requests) {
  const memory::Bound bound = memory::lower_bound(requests);
  return {.offsets = {},
          .arena_bytes = bound.bytes,
          .lower_bound_bytes = bound.bytes,
          .witness = bound.witness,
          .proved_bytes = bound.bytes};
}

void check_appended(const Graph& graph, const Graph& appended, const std::string& entry) {
  for (int id = graph.tensors.size(); id < appended.tensors.size(); ++id) {
    if (appended.tensors.persistent(id))
      throw ArgumentError(text("compile: entry '", entry, "' appended ", appended.describe(id),
                               " to column '", appended.tensors.column[row(id)],
                               "'; persistent tensors must be made before compile()"));
  }
}

/// The modelled time of an entry's nodes, on one thread.
double modelled_us(const Graph& graph) {
  double us = 0.0;
  for (const Node& node : graph.nodes) us += modelled_us(graph, node);
  return us;
}

/// One entry drafted in several ways, which share their kernels.
class Drafts {
 public:
  Drafts(const Graph& graph, const EntryPoint& point, const Options& options)
      : options_(options),
        name_(point.name),
        plain_(ordered(graph, point, options)),
        kernels_(options) {
    check_appended(graph, *plain_.graph, name_);
  }

  /// The first choice, and so the one of the least extra time, whose scratch is at most
  /// `most_bytes`. All budgets see the same list: a smaller one never takes more memory. Where none
  /// fits, `least_bytes` becomes the smallest scratch if it is larger.
  Entry within(std::size_t most_bytes, std::size_t& least_bytes) {
    if (auto entry = draft({}, most_bytes)) return std::move(*entry);
    const auto choices = passes::recompute_choices(*plain_.graph, plain_.runs, options_.threads);
    for (const Choice& choice : std::span(choices).subspan(1)) {  // the first is to keep all
      if (auto entry = draft(choice, most_bytes)) return std::move(*entry);
    }
    auto least = static_cast<std::size_t>(-1);
    for (auto choice = choices.rbegin(); choice != choices.rend(); ++choice) {
      if (const auto entry = draft(*choice, least - 1)) least = peak_bytes(*entry);
    }
    least_bytes = std::max(least_bytes, least);
    return {};
  }

 private:
  Entry made(std::unique_ptr<const Graph> graph) {
    Entry entry{.name = name_, .graph = std::move(graph)};
    entry.storages = assign_storages(*entry.graph, options_.in_place);
    prepare(entry, kernels_);
    note_lifetimes(entry);
    return entry;
  }
  /// In another order, where that lowers the bound and members need not wait more often.
  std::optional<Entry> reordered(const Entry& entry) {
    std::vector<std::size_t> workspace_bytes(entry.graph->nodes.size());
    for (const Step& step : entry.steps)
      workspace_bytes[row(step.node)] = step.kernel->workspace_bytes;
    const auto order = passes::lower_peak(*entry.graph, workspace_bytes, options_.in_place);
    if (order.empty()) return {};
    auto graph = std::unique_ptr<Graph>(new Graph(entry.graph->copy()));
    for (std::size_t i = 0; i < order.size(); ++i)
      graph->nodes[i] = entry.graph->nodes[row(order[i])];
    assert(check_order(*graph).empty());
    Entry other = made(std::move(graph));
    const auto bound = [](const Entry& e) { return memory::lower_bound(e.requests).bytes; };
    if (bound(other) >= bound(entry) || other.edges.size() > entry.edges.size()) return {};
    return other;
  }
  [[nodiscard]] std::size_t peak_bytes(const Entry& entry) const {
    return options_.memory == Memory::planned ? entry.plan.arena_bytes
                                              : entry.plan.lower_bound_bytes;
  }
  /// Nothing where it takes more than `most_bytes`: what takes long is done last.
  std::optional<Entry> draft(const Choice& choice, std::size_t most_bytes) {
    auto after = recomputed(plain_, choice);
    if (!after || passes::bytes_between(*after->graph, after->runs) > most_bytes) return {};
    passes::split(*after->graph, after->runs, options_.threads);
    assert(check_order(*after->graph).empty());
    Entry entry = made(std::move(after->graph));
    if (options_.order) {
      if (auto other = reordered(entry)) entry = std::move(*other);
    }
    if (memory::lower_bound(entry.requests).bytes > most_bytes) return {};
    entry.plan = options_.place ? memory::plan(entry.requests) : unplaced(entry.requests);
    assert(!options_.place || memory::check(entry.plan, entry.requests).empty());
    if (peak_bytes(entry) > most_bytes) return {};
    entry.sum_bytes = memory::sum_bytes(entry.requests);
    entry.made_again = choice.dropped;
    if (choice.extra_us > 0.0) entry.extra_time = choice.extra_us / modelled_us(*plain_.graph);
    return entry;
  }

  const Options& options_;
  std::string name_;
  Ordered plain_;
  Kernels kernels_;
};

/// Whether the bytes of a tensor are those of the same tensor in `options.share`.
bool shared(const TensorTable& tensors, int id, const Options& options) {
  const std::string& column = tensors.column[row(id)];
  if (options.share == nullptr || column == "inputs" || column == "kept" || column == "settings" ||
      tensors.lent(id))
    return false;
  const TensorTable& theirs = options.share->blueprint().tensors;
  for (int other = 0; other < theirs.size(); ++other) {
    if (theirs.column[row(other)] == column && theirs.name[row(other)] == tensors.name[row(id)] &&
        theirs.spec[row(other)] == tensors.spec[row(id)])
      return true;
  }
  return false;
}

void place_columns(Blueprint& blueprint) {
  const TensorTable& tensors = blueprint.tensors;
  std::vector<std::string> columns;  // in order of first appearance
  for (const std::string& name : tensors.column) {
    if (!name.empty() && name != "lent" && std::ranges::count(columns, name) == 0)
      columns.push_back(name);
  }
  blueprint.offset.assign(row(tensors.size()), -1);
  for (const std::string& name : columns) {
    for (int dtype = 0; dtype <= static_cast<int>(DType::boolean); ++dtype) {
      for (int id = 0; id < tensors.size(); ++id) {
        const Spec& spec = tensors.spec[row(id)];
        if (tensors.column[row(id)] != name || static_cast<int>(spec.dtype) != dtype ||
            shared(tensors, id, blueprint.options))
          continue;
        blueprint.offset[row(id)] = static_cast<std::ptrdiff_t>(blueprint.persistent_bytes);
        blueprint.persistent_bytes += memory::aligned(spec.bytes());
      }
    }
  }
}

/// Behind all columns, so that a feed can cross to one slot while a step reads the other.
void place_second_slots(Blueprint& blueprint) {
  blueprint.second_offset.assign(blueprint.offset.size(), -1);
  for (int id = 0; id < blueprint.tensors.size(); ++id) {
    if (blueprint.tensors.column[row(id)] != "inputs") continue;
    blueprint.second_offset[row(id)] = static_cast<std::ptrdiff_t>(blueprint.persistent_bytes);
    blueprint.persistent_bytes += memory::aligned(blueprint.tensors.spec[row(id)].bytes());
  }
}

/// Shared bytes are read where they lie.
void check_share(const Options& options) {
  if (options.share == nullptr) return;
  const auto place = [](const Options& o) {
    return o.launcher == nullptr ? memory::Place{}
                                 : memory::Place{memory::Space::cuda, o.device.stream.ops->device};
  };
  const memory::Place here = place(options), there = place(options.share->blueprint().options);
  const bool asked_elsewhere =
      options.device.kind == Device::Kind::cuda && options.device.index != here.index;
  if (here == there && !asked_elsewhere) return;
  throw ArgumentError(text("compile: the program to share with lies on ", to_string(there),
                           " but this one is to run elsewhere; take its device, or share nothing"));
}

/// What a device settles. It shares no work among members: a kernel fills all of it.
Options settled(Options options) {
  if (options.launcher == nullptr && options.share != nullptr)
    options.launcher = options.share->blueprint().options.launcher;
  if (options.launcher == nullptr && options.device.kind == Device::Kind::cuda)
    options.launcher = cuda::launcher(options.device);
  if (options.launcher != nullptr) options.device.stream = options.launcher->work();
  check_share(options);
  if (options.launcher == nullptr) return options;
  options.threads = options.chunks = 1;
  options.use_team = options.fuse_updates = options.features = false;
  return options;
}

void check_options(const Graph& graph, const std::vector<EntryPoint>& entries,
                   const Options& options) {
  constexpr int kMaxThreads = 256;
  if (options.threads < 1 || options.threads > kMaxThreads)
    throw ArgumentError(text("compile: ", options.threads, " threads; choose 1 to ", kMaxThreads));
  if (options.chunks < 0)
    throw ArgumentError(text("compile: ", options.chunks,
                             " chunks; choose 1 or more, or 0 for as many "
                             "as the sizes suggest"));
  if (options.precision != DType::f32 && !is_half(options.precision))
    throw ArgumentError(text("compile: activations cannot be kept as ", options.precision,
                             "; choose float32, bfloat16 or float16"));
  if (entries.empty()) throw ArgumentError("compile: no entries; name at least one with its roots");
  for (const EntryPoint& entry : entries) {
    if (std::ranges::count(entries, entry.name, &EntryPoint::name) > 1)
      throw ArgumentError(text("compile: two entries are called '", entry.name, "'"));
    for (const Tensor& root : entry.roots) {
      if (root.graph != &graph)
        throw ArgumentError(text("compile: a root of entry '", entry.name,
                                 "' belongs to another graph, or to none"));
    }
  }
}

std::string megabytes(std::size_t bytes) {
  std::ostringstream out;
  out.setf(std::ios::fixed);
  out.precision(1);
  out << static_cast<double>(bytes) / (1 << 20) << " MiB";
  return out.str();
}

[[noreturn]] void refuse_budget(std::size_t budget, std::size_t smallest) {
  throw BudgetError(smallest,
                    text("compile: a budget of ", budget, " bytes (", megabytes(budget),
                         ") is below the smallest that is feasible, ", smallest, " bytes (",
                         megabytes(smallest), "); raise it or take a smaller batch"));
}

}  // namespace

std::string to_string(Memory memory) {
  switch (memory) {
    case Memory::planned:
      return "planned";
    case Memory::pooled:
      return "pooled";
    default:
      return "direct";
  }
}

std::size_t Blueprint::lower_bound_bytes() const {
  std::size_t most = 0;
  for (const Entry& entry : entries) most = std::max(most, entry.plan.lower_bound_bytes);
  return persistent_bytes + most;
}

std::size_t Blueprint::sum_bytes() const {
  std::size_t most = 0;
  for (const Entry& entry : entries) most = std::max(most, entry.sum_bytes);
  return persistent_bytes + most;
}

std::size_t Blueprint::predicted_peak_bytes() const {
  return options.memory == Memory::planned ? arena_bytes() : lower_bound_bytes();
}

std::size_t Blueprint::column_bytes(std::string_view column) const {
  std::size_t bytes = 0;
  for (int id = 0; id < tensors.size(); ++id) {
    if (tensors.column[row(id)] == column) bytes += memory::aligned(tensors.spec[row(id)].bytes());
  }
  return bytes;
}

const Entry& Blueprint::entry(std::string_view name) const {
  const auto found = std::ranges::find(entries, name, &Entry::name);
  if (found != entries.end()) return *found;
  std::string known;
  for (const Entry& entry : entries) known += (known.empty() ? "'" : ", '") + entry.name + "'";
  throw ArgumentError(text("program: no entry '", name, "'; there are ", known));
}

Blueprint draft(const Graph& graph, const std::vector<EntryPoint>& entries, const Options& wanted) {
  check_options(graph, entries, wanted);
  const Options options = settled(wanted);
  Graph kept = graph.copy();
  for (const EntryPoint& entry : entries) {
    for (const Tensor& root : entry.roots) kept.keep(kept.handle(root.id));
  }
  Blueprint blueprint{.options = options, .tensors = kept.tensors, .rows_id = kept.rows_id()};
  place_columns(blueprint);
  if (options.launcher != nullptr) place_second_slots(blueprint);
  passes::copy_kept_views(kept);
  const std::size_t budget = options.budget_bytes;
  const std::size_t most = budget == 0 ? static_cast<std::size_t>(-1)
                                       : budget - std::min(budget, blueprint.persistent_bytes);
  std::size_t least = 0;
  for (const EntryPoint& entry : entries) {
    blueprint.entries.push_back(Drafts(kept, entry, options).within(most, least));
    blueprint.scratch_bytes =
        std::max(blueprint.scratch_bytes, blueprint.entries.back().plan.arena_bytes);
  }
  if (least > 0) refuse_budget(budget, blueprint.persistent_bytes + least);
  const std::size_t bytes = blueprint.predicted_peak_bytes();
  if (options.memory_limit_bytes > 0 && bytes > options.memory_limit_bytes)
    throw MemoryError(text("compile: ", to_string(options.memory), " memory of ", megabytes(bytes),
                           " is more than the limit of ", megabytes(options.memory_limit_bytes),
                           "; take a smaller batch or raise the limit"));
  return blueprint;
}

}  // namespace poolgrad
