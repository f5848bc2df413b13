// Graph: nodes in the order they run. Builders append to it; passes rewrite a copy in place.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "engine/op.h"

namespace poolgrad {

struct Node {
  const OpDef* op = nullptr;
  Attributes attributes{};
  std::vector<int> inputs{}, outputs{};  // rows of the tensor table
  int member = 0;                        // who of the team runs it
  std::optional<DType> floats{};         // as what it keeps its f32 results; absent: infer()
};

/// The specs of what an op makes. Where it is not OpDef::any_dtype, inputs of f16 and bf16 count as
/// f32 and what it makes of f32 is kept as `floats`; if that is absent, by an OpDef::precise as
/// f32, by others as the first of these inputs is. What it updates stays as it was. Throws what
/// OpDef::infer() throws.
[[nodiscard]] std::vector<Spec> infer(const OpDef& op, const Site& site,
                                      std::optional<DType> floats = {});

/// `maker` rewritten by its twin to make output = keep · base + what it made, or − rate · that.
[[nodiscard]] Node on_top(const Node& maker, int base, float keep, std::optional<int> rate,
                          int output);

/// Tensors are handles that point here, so a graph stays where it was made: copy() is the only way
/// to another one, and handles of the copy are made with handle(). One that lives in a shared_ptr
/// can be kept by whoever keeps a handle (Python does).
struct Graph : std::enable_shared_from_this<Graph> {
  TensorTable tensors;
  std::vector<Node> nodes;

  Graph() = default;
  Graph& operator=(const Graph&) = delete;
  [[nodiscard]] Graph copy() const { return *this; }

  /// A slot that the caller writes before a run. Its first axis is the largest batch, unless
  /// `batched` is false. Throws ShapeError for extents below 1.
  Tensor input(const Spec& spec, std::string_view name, bool batched = true);
  /// A table that lies with the caller and takes no bytes here, however large it is:
  /// Program::lend() says where. Throws ShapeError for extents below 1.
  Tensor lent(const Spec& spec, std::string_view name);
  /// Trained. Its name is the layer's path and `name`: "0" and "weight" give "0.weight".
  Tensor parameter(const Shape& shape, Init init, std::string_view name);
  /// Persistent and changed by ops, or constant: moments, running statistics, counters, settings.
  Tensor state(const Spec& spec, Init init, std::string_view name, std::string_view column);

  /// Scalars every graph has at most one of: rows that count in this batch (i32, written by run()),
  /// and the number of training steps done (i64, advanced by the training entry itself).
  Tensor rows();
  Tensor step();

  /// Appends a node and answers its outputs; `floats` is Node's. Throws ShapeError.
  std::vector<Tensor> add(const OpDef& op, const std::vector<Tensor>& inputs,
                          const Attributes& attributes = {}, std::optional<DType> floats = {});

  /// From now on `tensor` has bytes of its own, which can be read and exported at any time.
  void keep(Tensor tensor);

  /// Tensors made while it lives belong to layer `name`, inside the layer that is current.
  class Layer {
   public:
    Layer(Graph& graph, std::string_view name);
    ~Layer();
    Layer(const Layer&) = delete;
    Layer& operator=(const Layer&) = delete;

   private:
    Graph& graph_;
    std::string outer_;
  };

  [[nodiscard]] Tensor handle(int id) { return {this, id}; }
  [[nodiscard]] std::vector<Tensor> handles(std::span<const int> ids);
  [[nodiscard]] std::vector<Spec> specs(std::span<const int> ids) const;
  [[nodiscard]] std::vector<Tensor> column(std::string_view name);  // in the order of their rows
  [[nodiscard]] const std::string& name(int id) const;
  [[nodiscard]] std::string describe(int id) const;  // 'hidden' [32, 128]
  /// Whose work a node is: "" outside layers. An update's is that of what it updates.
  [[nodiscard]] const std::string& layer_of(const Node& node) const;
  [[nodiscard]] int rows_id() const { return rows_; }  // -1 where nobody asked for it

  std::string current_layer;  // of what is being built
  bool in_backward = false;   // differentiate() is building

 private:
  Graph(const Graph&) = default;
  int rows_ = -1, step_ = -1;
};

inline const Spec& Tensor::spec() const {
  return graph->tensors.spec[static_cast<std::size_t>(id)];
}

}  // namespace poolgrad
