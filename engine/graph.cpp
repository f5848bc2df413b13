// Building graphs. Shapes are logical here: layout is settled by a pass.
#include "engine/graph.h"

#include <algorithm>

namespace poolgrad {
namespace {
std::size_t row(int id) { return static_cast<std::size_t>(id); }
}  // namespace

Node on_top(const Node& maker, int base, float keep, std::optional<int> rate, int output) {
  Node result{maker.op->adds,
              maker.op->onto(maker.attributes, keep, rate.has_value()),
              maker.inputs,
              {output}};
  result.inputs.insert(result.inputs.begin(), base);
  if (rate) result.inputs.push_back(*rate);
  return result;
}

std::vector<Spec> infer(const OpDef& op, const Site& site, std::optional<DType> floats) {
  const auto half = std::ranges::find_if(site.inputs, is_half, &Spec::dtype);
  if (op.any_dtype || op.view != nullptr || (half == site.inputs.end() && !floats))
    return op.infer(site);
  std::vector<Spec> seen(site.inputs.begin(), site.inputs.end());
  for (Spec& spec : seen) {
    if (is_half(spec.dtype)) spec.dtype = DType::f32;
  }
  Site wide = site;
  wide.inputs = seen;
  std::vector<Spec> made = op.infer(wide);
  const DType kept = floats ? *floats : op.precise ? DType::f32 : half->dtype;
  for (std::size_t i = 0; i < made.size(); ++i) {
    if (i < row(op.updates)) {
      made[i].dtype = site.inputs[i].dtype;
    } else if (made[i].dtype == DType::f32) {
      made[i].dtype = kept;
    }
  }
  return made;
}

Tensor Graph::input(const Spec& spec, std::string_view name, bool batched) {
  check_extents(spec, text("input '", name, "'"));
  const Tensor slot = state(spec, {}, name, "inputs");
  tensors.unbatched[row(slot.id)] = batched && spec.shape.rank() > 0 ? 0 : 1;
  return slot;
}

Tensor Graph::lent(const Spec& spec, std::string_view name) {
  check_extents(spec, text("lent '", name, "'"));
  return state(spec, {}, name, "lent");
}

Tensor Graph::parameter(const Shape& shape, Init init, std::string_view name) {
  init.stream = column("parameters").size();
  const std::string path =
      current_layer.empty() ? std::string(name) : text(current_layer, ".", name);
  check_extents({shape}, text("parameter '", path, "'"));
  return state({shape}, init, path, "parameters");
}

Tensor Graph::state(const Spec& spec, Init init, std::string_view name, std::string_view column) {
  const int id = tensors.add(spec);
  tensors.name[row(id)] = name;
  tensors.column[row(id)] = column;
  tensors.init[row(id)] = init;
  tensors.layer[row(id)] = current_layer;
  return {this, id};
}

Tensor Graph::rows() {
  if (rows_ < 0) rows_ = input({{}, DType::i32}, "rows").id;
  return {this, rows_};
}

Tensor Graph::step() {
  if (step_ < 0) step_ = state({{}, DType::i64}, {}, "step", "counters").id;
  return {this, step_};
}

std::vector<Tensor> Graph::add(const OpDef& op, const std::vector<Tensor>& inputs,
                               const Attributes& attributes, std::optional<DType> floats) {
  Node node{.op = &op, .attributes = attributes, .floats = floats};
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].graph != this)
      throw ShapeError(text(op.name, ": input ", i, " belongs to another graph"));
    node.inputs.push_back(inputs[i].id);
  }
  const std::vector<Spec> before = specs(node.inputs);
  std::vector<Spec> made;
  const auto in_layer = [&](const std::exception& error) {
    return current_layer.empty() ? text(error.what())
                                 : text(error.what(), " (in layer '", current_layer, "')");
  };
  try {
    made = infer(op, {before, {}, node.attributes}, floats);
  } catch (const ShapeError& error) {
    throw ShapeError(in_layer(error));
  } catch (const ArgumentError& error) {
    throw ArgumentError(in_layer(error));
  }
  for (const Spec& spec : made) {
    const int id = tensors.add(spec);
    tensors.layer[row(id)] = current_layer;
    tensors.backward[row(id)] = in_backward ? 1 : 0;
    node.outputs.push_back(id);
  }
  nodes.push_back(std::move(node));
  return handles(nodes.back().outputs);
}

void Graph::keep(Tensor tensor) {
  std::string& column = tensors.column[row(tensor.id)];
  if (column.empty()) column = "kept";
}

const std::string& Graph::layer_of(const Node& node) const {
  static const std::string kNone;
  const std::vector<int>& ids = node.op->updates > 0 ? node.inputs : node.outputs;
  return ids.empty() ? kNone : tensors.layer[row(ids[0])];
}

Graph::Layer::Layer(Graph& graph, std::string_view name)
    : graph_(graph), outer_(graph.current_layer) {
  graph.current_layer = outer_.empty() ? std::string(name) : text(outer_, ".", name);
}
Graph::Layer::~Layer() { graph_.current_layer = outer_; }

std::vector<Tensor> Graph::handles(std::span<const int> ids) {
  std::vector<Tensor> result;
  for (const int id : ids) result.push_back({this, id});
  return result;
}

std::vector<Spec> Graph::specs(std::span<const int> ids) const {
  std::vector<Spec> result;
  for (const int id : ids) result.push_back(tensors.spec[row(id)]);
  return result;
}

std::vector<Tensor> Graph::column(std::string_view name) {
  std::vector<Tensor> result;
  for (int id = 0; id < tensors.size(); ++id) {
    if (tensors.column[row(id)] == name) result.push_back({this, id});
  }
  return result;
}

const std::string& Graph::name(int id) const { return tensors.name[row(id)]; }

std::string Graph::describe(int id) const {
  const std::string& own = name(id);
  return text("'", own.empty() ? text("tensor ", id) : own, "' ", tensors.spec[row(id)].shape);
}

}  // namespace poolgrad
