// Descriptors, and the search for an engine among what the heuristics answer.
#include "engine/cuda/cudnn_graph.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/error.h"

namespace poolgrad::cuda {
namespace {

using Configs = std::vector<Descriptor>;

Descriptor graph_of(const Target& target, std::span<const Descriptor> operations) {
  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  if (target.handle != nullptr)
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operations);
  graph.finalize();
  return graph;
}

/// What a mode of the heuristics answers, best first. Nothing where it has no answer.
Configs configs_of(const Target& target, const Descriptor& graph, cudnnBackendHeurMode_t mode) {
  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
#if CUDNN_VERSION >= 90800
  if (target.handle == nullptr)
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.properties);
#endif
  if (cudnnBackendFinalize(heuristics.get()) != CUDNN_STATUS_SUCCESS) return {};
  std::int64_t count = 0;
  check_networks(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
                 "cudnnBackendGetAttribute");
  Configs configs;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (std::int64_t i = 0; i < count; ++i)
    raw.push_back(configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).get());
  check_networks(cudnnBackendGetAttribute(heuristics.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count, raw.data()),
                 "cudnnBackendGetAttribute");
  configs.erase(configs.begin() + count, configs.end());
  return configs;
}

Descriptor engine_of(const Descriptor& config) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t raw = engine.get();
  std::int64_t count = 0;
  check_networks(cudnnBackendGetAttribute(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &raw),
                 "cudnnBackendGetAttribute");
  return engine;
}

std::int64_t number_of(const Descriptor& engine) {
  std::int64_t count = 0, number = -1;
  check_networks(cudnnBackendGetAttribute(engine.get(), CUDNN_ATTR_ENGINE_GLOBAL_INDEX,
                                          CUDNN_TYPE_INT64, 1, &count, &number),
                 "cudnnBackendGetAttribute");
  return number;
}

/// All values of an attribute that is a list of notes.
template <typename Note>
std::vector<Note> notes_of(const Descriptor& engine, cudnnBackendAttributeName_t name,
                           cudnnBackendAttributeType_t type, std::int64_t most) {
  std::vector<Note> notes(static_cast<std::size_t>(most));
  std::int64_t count = 0;
  check_networks(cudnnBackendGetAttribute(engine.get(), name, type, most, &count, notes.data()),
                 "cudnnBackendGetAttribute");
  notes.resize(static_cast<std::size_t>(count));
  return notes;
}

bool allowed(cudnnBackendNumericalNote_t note, const Wishes& wishes) {
  switch (note) {
    case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
    case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
      return false;
    case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
    case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
      return wishes.tensor_cores;
    case CUDNN_NUMERICAL_NOTE_FFT:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
    case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13:
      return wishes.tiles;
    default:
      return true;
  }
}

bool allowed(const Descriptor& engine, const Wishes& wishes) {
  const auto numerical = notes_of<cudnnBackendNumericalNote_t>(
      engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
      CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
  const auto behavior = notes_of<cudnnBackendBehaviorNote_t>(
      engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
      CUDNN_BEHAVIOR_NOTE_TYPE_COUNT);
  return std::ranges::all_of(numerical, [&](auto note) { return allowed(note, wishes); }) &&
         (wishes.compiled ||
          std::ranges::count(behavior, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) == 0);
}

std::optional<EnginePlan> built(const Target& target, const Descriptor& config,
                                std::int64_t engine) {
  Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  if (target.handle != nullptr)
    plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, target.handle);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
  if (cudnnBackendFinalize(plan.get()) != CUDNN_STATUS_SUCCESS) return {};
  return EnginePlan(std::move(plan), engine);
}

}  // namespace

// ---- Descriptor

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  check_networks(cudnnBackendCreateDescriptor(type, &descriptor_), "cudnnBackendCreateDescriptor");
}

Descriptor::Descriptor(Descriptor&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, nullptr)) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Descriptor::~Descriptor() {
  if (descriptor_ != nullptr) (void)cudnnBackendDestroyDescriptor(descriptor_);
}

void Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                     std::int64_t count, const void* values) {
  check_networks(cudnnBackendSetAttribute(descriptor_, name, type, count, values),
                 "cudnnBackendSetAttribute");
}

void Descriptor::set(cudnnBackendAttributeName_t name, const Descriptor& value) {
  set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, value.get());
}

void Descriptor::set(cudnnBackendAttributeName_t name, std::span<const Descriptor> values) {
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const Descriptor& value : values) raw.push_back(value.get());
  set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(raw.size()), raw.data());
}

void Descriptor::finalize() {
  check_networks(cudnnBackendFinalize(descriptor_), "cudnnBackendFinalize");
}

Descriptor described_device([[maybe_unused]] const std::string& json) {
#if CUDNN_VERSION >= 90800
  Descriptor properties(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  properties.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                 std::span<const char>(json));
  properties.finalize();
  return properties;
#else
  throw DeviceError("cuDNN before 9.8 knows no devices but those that are there");
#endif
}

// ---- EnginePlan

EnginePlan::EnginePlan(Descriptor plan, std::int64_t engine)
    : plan_(std::move(plan)), engine_(engine) {
  std::int64_t count = 0, bytes = 0;
  check_networks(cudnnBackendGetAttribute(plan_.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                          CUDNN_TYPE_INT64, 1, &count, &bytes),
                 "cudnnBackendGetAttribute");
  workspace_bytes_ = static_cast<std::size_t>(bytes);
}

void EnginePlan::run(cudnnHandle_t handle, std::span<const std::int64_t> tensors,
                     std::span<void* const> addresses, void* workspace) const {
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, tensors);
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, addresses);
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
  pack.finalize();
  check_networks(cudnnBackendExecute(handle, plan_.get(), pack.get()), "cudnnBackendExecute");
}

std::optional<EnginePlan> best_plan(const Target& target, std::span<const Descriptor> operations,
                                    const Wishes& wishes) {
  const Descriptor graph = graph_of(target, operations);
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    for (const Descriptor& config : configs_of(target, graph, mode)) {
      const Descriptor engine = engine_of(config);
      if (!allowed(engine, wishes)) continue;
      auto plan = built(target, config, number_of(engine));
      if (plan && plan->workspace_bytes() <= wishes.most_workspace) return plan;
    }
  }
  return {};
}

void check_networks(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  std::array<char, 512> why{};
  cudnnGetLastErrorString(why.data(), why.size() - 1);
  std::string words = why.data();
  std::ranges::replace(words, '\n', ' ');
  throw DeviceError(
      text(call, " failed: ", cudnnGetErrorString(status), words.empty() ? "" : ", ", words));
}

}  // namespace poolgrad::cuda
