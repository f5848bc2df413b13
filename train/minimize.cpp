// minimize(): reserves what a training entry needs, and appends its nodes when it is compiled.
#include "train/minimize.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "train/updates.h"

namespace poolgrad::train {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

/// Ids, since nodes are appended to another copy of the graph than the one they were reserved in.
struct Reserved {
  std::vector<int> parameters;
  std::vector<std::vector<int>> moments;  // one column each, in the order of the parameters
  std::vector<int> gradients;             // empty: planned tensors, each dead after its update
  int loss = -1, rate = -1, scale = -1, step = -1;
  int growth_tracker = -1, skipped = -1;  // of a grad scaler
};

std::vector<int> ids(const std::vector<Tensor>& tensors) {
  std::vector<int> result;
  for (const Tensor& tensor : tensors) result.push_back(tensor.id);
  return result;
}

/// A column beside the parameters', zero at first: `prefix`.NAME for each of them.
std::vector<int> reserve_column(Graph& graph, const std::vector<Tensor>& parameters,
                                const std::string& column) {
  std::vector<int> result;
  for (const Tensor& parameter : parameters) {
    const Tensor state = graph.state(parameter.spec(), Init::constant(0.0F),
                                     column + "." + graph.name(parameter.id), column);
    graph.tensors.layer[row(state.id)] = graph.tensors.layer[row(parameter.id)];
    result.push_back(state.id);
  }
  return result;
}

std::vector<std::string> moment_columns(const Optimizer& optimizer) {
  if (const Sgd* sgd = std::get_if<Sgd>(&optimizer))
    return sgd->momentum == 0.0F ? std::vector<std::string>{}
                                 : std::vector<std::string>{"momentum"};
  return {"adam.first", "adam.second"};
}

float rate_of(const Optimizer& optimizer) {
  return std::visit([](const auto& settings) { return settings.rate; }, optimizer);
}

/// Makes gradients the reserved tensors themselves: their producers write there. Where nobody can
/// be told to (a view, a value that someone else made or that another parameter has too), by a
/// copy.
class GradientColumn {
 public:
  GradientColumn(Graph& graph, int first_new) : graph_(graph), first_new_(first_new) {}

  Tensor move(Tensor gradient, int reserved) {
    if (const auto moved = moved_.find(gradient.id); moved != moved_.end()) {
      gradient = duplicate(graph_.handle(moved->second));
    } else if (!can_move(gradient)) {
      gradient = duplicate(gradient);
    }
    moved_[gradient.id] = reserved;
    for (Node& node : graph_.nodes) {
      std::ranges::replace(node.inputs, gradient.id, reserved);
      std::ranges::replace(node.outputs, gradient.id, reserved);
    }
    return graph_.handle(reserved);
  }

 private:
  [[nodiscard]] bool can_move(Tensor gradient) const {
    const auto maker = std::ranges::find_if(graph_.nodes, [&](const Node& node) {
      return std::ranges::count(node.outputs, gradient.id) > 0;
    });
    return gradient.id >= first_new_ && maker != graph_.nodes.end() && maker->op->view == nullptr &&
           maker->op->updates == 0;
  }

  Graph& graph_;
  int first_new_;             // tensors before it are the caller's
  std::map<int, int> moved_;  // what a gradient was -> what it is now
};

/// What one update is given: handles of a parameter, its moments and its gradient, or of whole
/// columns.
struct Update {
  Tensor weight{}, gradient{};
  std::vector<Tensor> moments{};
};

Tensor append_update(const Optimizer& optimizer, const Update& u, Tensor rate, Tensor step,
                     const GradScale& scale) {
  if (const Sgd* s = std::get_if<Sgd>(&optimizer)) {
    return sgd(u.weight, u.moments.empty() ? Tensor{} : u.moments[0], u.gradient, rate, *s, scale);
  }
  if (const Adam* s = std::get_if<Adam>(&optimizer))
    return adam(u.weight, u.moments[0], u.moments[1], u.gradient, rate, step, *s, scale);
  return adamw(u.weight, u.moments[0], u.moments[1], u.gradient, rate, step,
               std::get<AdamW>(optimizer), scale);
}

/// Neighbours in the columns as one update: all parameters, unless the loss leaves some out, whose
/// bytes must not change.
std::vector<Update> by_runs(const std::vector<Update>& updates) {
  std::vector<Update> result;
  std::vector<Tensor> weights, gradients;
  std::vector<std::vector<Tensor>> moments;
  const auto close = [&] {
    if (weights.empty()) return;
    Update run{pack(weights), pack(gradients), {}};
    for (const std::vector<Tensor>& column : moments) run.moments.push_back(pack(column));
    result.push_back(run);
    weights.clear();
    gradients.clear();
    moments.clear();
  };
  for (const Update& update : updates) {
    if (!update.gradient) {
      close();
      continue;
    }
    weights.push_back(update.weight);
    gradients.push_back(update.gradient);
    moments.resize(update.moments.size());
    for (std::size_t i = 0; i < moments.size(); ++i) moments[i].push_back(update.moments[i]);
  }
  close();
  return result;
}

/// What all updates read, where it takes all gradients to know it. To the passes its nodes belong
/// to the backward pass: nothing of it is made again.
GradScale append_grad_scale(Graph& graph, const std::vector<Update>& updates, Tensor scale,
                            const MinimizeOptions& options) {
  std::vector<Tensor> sums;
  graph.in_backward = true;
  for (const Update& update : updates) {
    if (update.gradient) sums.push_back(sum_squares(update.gradient));
  }
  GradScale result;
  if (!sums.empty()) {
    Unscale settings{.skips = options.grad_scaler.has_value()};
    settings.max_norm = options.clip_grad_norm.value_or(settings.max_norm);
    result = grad_scale(sums, scale, settings);
  }
  graph.in_backward = false;
  return result;
}

/// Backward and update nodes; answers the updates.
std::vector<int> append_training(Graph& graph, const Reserved& reserved, const Optimizer& optimizer,
                                 const MinimizeOptions& options) {
  const int first_new = graph.tensors.size();
  const std::vector<Tensor> parameters = graph.handles(reserved.parameters);
  const std::vector<Tensor> gradients =
      differentiate(graph.handle(reserved.loss), parameters, graph.handle(reserved.scale));

  std::vector<Update> updates;
  GradientColumn column(graph, first_new);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    // The node that makes it may have been fused into another layer's; reports want the
    // parameter's.
    if (gradients[i] && gradients[i].id >= first_new)
      graph.tensors.layer[row(gradients[i].id)] = graph.tensors.layer[row(parameters[i].id)];
    Update update{parameters[i], gradients[i], {}};
    if (gradients[i] && !reserved.gradients.empty()) {
      update.gradient = column.move(gradients[i], reserved.gradients[i]);
    }
    for (const auto& moment : reserved.moments) update.moments.push_back(graph.handle(moment[i]));
    updates.push_back(update);
  }
  if (options.updates == Updates::whole_column) updates = by_runs(updates);

  const Tensor rate = graph.handle(reserved.rate), step = graph.handle(reserved.step);
  const Tensor scale = graph.handle(reserved.scale);
  GradScale scaled;
  if (options.grad_scaler || options.clip_grad_norm)
    scaled = append_grad_scale(graph, updates, scale, options);
  std::vector<int> done;
  for (const Update& update : updates) {
    if (update.gradient) done.push_back(append_update(optimizer, update, rate, step, scaled).id);
  }
  done.push_back(tick(step, scaled.found_inf).id);
  if (options.grad_scaler && scaled.found_inf) {
    done.push_back(update_scale(scale, graph.handle(reserved.growth_tracker),
                                graph.handle(reserved.skipped), scaled.found_inf,
                                *options.grad_scaler)
                       .id);
  }
  return done;
}

}  // namespace

void check(const MinimizeOptions& options) {
  if (options.grad_scaler) check(*options.grad_scaler);
  const float norm = options.clip_grad_norm.value_or(1.0F);
  if (!std::isfinite(norm) || norm <= 0.0F)
    throw ArgumentError(
        text("minimize: gradients clipped to a norm of ", norm, "; it must be above 0"));
}

Training minimize(Tensor loss, const Optimizer& optimizer, const MinimizeOptions& options) {
  check(optimizer);
  check(options);
  if (!loss)
    throw ShapeError("minimize: the loss is an empty tensor; pass what a loss op returned");
  Graph& graph = *loss.graph;
  if (loss.shape().rank() != 0) {
    throw ShapeError(
        text("minimize: the loss ", graph.describe(loss.id), " is not a scalar; reduce it to one"));
  }
  const std::vector<Tensor> parameters = graph.column("parameters");
  if (parameters.empty())
    throw ShapeError("minimize: the graph has no parameters; make some with Graph::parameter()");

  Training training;
  training.optimizer = optimizer;
  training.options = options;
  training.loss = loss;
  training.rate = graph.state({}, Init::constant(rate_of(optimizer)), "rate", "settings");
  const auto& scaler = options.grad_scaler;
  training.scale = graph.state({}, Init::constant(scaler ? scaler->init_scale : 1.0F), "scale",
                               scaler ? "scaler" : "settings");

  Reserved reserved{.parameters = ids(parameters),
                    .moments = {},
                    .gradients = {},
                    .loss = loss.id,
                    .rate = training.rate.id,
                    .scale = training.scale.id,
                    .step = graph.step().id};
  if (scaler) {
    const auto counter = [&](const char* name) {
      return graph.state({{}, DType::i64}, Init::constant(0.0F), name, "scaler");
    };
    reserved.growth_tracker = counter("growth_tracker").id;
    training.skipped = counter("skipped");
    reserved.skipped = training.skipped.id;
  }
  for (const std::string& column : moment_columns(optimizer))
    reserved.moments.push_back(reserve_column(graph, parameters, column));
  // A whole column is one flat tensor with gaps between its parts. Only in a persistent column are
  // the gaps zero, so that an update leaves them so.
  if (options.keep_gradients || options.updates == Updates::whole_column) {
    reserved.gradients = reserve_column(graph, parameters, "gradients");
    training.gradients = graph.handles(reserved.gradients);
  }
  training.append = [reserved, optimizer, options](Graph& entry) {
    return append_training(entry, reserved, optimizer, options);
  };
  return training;
}

EntryPoint Training::entry(std::string name, std::vector<Tensor> also) const {
  also.insert(also.begin(), loss);
  return {std::move(name), std::move(also), append};
}

}  // namespace poolgrad::train
