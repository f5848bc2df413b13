// Runs nodes one by one, every tensor in bytes of its own.
#include "tests/engine/ops/evaluate.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <stdexcept>

#include "memory/alignment.h"

namespace poolgrad::testing {

namespace {

constexpr std::size_t kGuard = 256;

}  // namespace

Buffer::Buffer(std::size_t bytes) : lines_((memory::aligned(bytes) + kGuard) / sizeof(Line)) {
  std::memset(static_cast<void*>(lines_.data()), 0xff, lines_.size() * sizeof(Line));
}

bool Buffer::intact_behind(std::size_t bytes) const {
  return std::all_of(data() + bytes, data() + lines_.size() * sizeof(Line),
                     [](std::byte b) { return b == std::byte{0xff}; });
}

Value Value::rows(std::int64_t begin, std::int64_t end) const {
  Value part(spec);
  part.spec.shape[0] = end - begin;
  const std::size_t row_bytes = spec.bytes() / static_cast<std::size_t>(spec.shape[0]);
  std::memcpy(part.bytes.data(), bytes.data() + static_cast<std::size_t>(begin) * row_bytes,
              part.spec.bytes());
  return part;
}

Value Value::columns(std::int64_t begin, std::int64_t end) const {
  Value part;
  part.spec = spec;
  part.spec.shape[1] = end - begin;
  part.spec.pitch = spec.shape[1];
  part.bytes = Buffer(part.spec.bytes());
  std::memcpy(part.bytes.data(),
              bytes.data() + static_cast<std::size_t>(begin) * size_of(spec.dtype),
              part.spec.bytes());
  return part;
}

void Value::put_rows(const Value& part, std::int64_t begin) {
  const std::size_t row_bytes = spec.bytes() / static_cast<std::size_t>(spec.shape[0]);
  std::memcpy(bytes.data() + static_cast<std::size_t>(begin) * row_bytes, part.bytes.data(),
              part.spec.bytes());
}

void Value::put_columns(const Value& part, std::int64_t begin) {
  const std::size_t size = size_of(spec.dtype);
  for (std::int64_t row = 0; row < spec.shape[0]; ++row) {
    std::memcpy(bytes.data() + static_cast<std::size_t>(row * spec.shape[1] + begin) * size,
                part.bytes.data() + static_cast<std::size_t>(row * part.spec.strides()[0]) * size,
                static_cast<std::size_t>(part.spec.shape[1]) * size);
  }
}

bool Value::same_bits(const Value& other) const {
  return spec == other.spec && std::memcmp(bytes.data(), other.bytes.data(), spec.bytes()) == 0;
}

Value floats(const Shape& shape, std::span<const float> values) {
  Value value(Spec{shape});
  std::ranges::copy(values, value.as<float>().begin());
  return value;
}

Value labels(const std::vector<std::int64_t>& values) {
  Value value(Spec{{static_cast<std::int64_t>(values.size())}, DType::i64});
  std::ranges::copy(values, value.as<std::int64_t>().begin());
  return value;
}

Value scalar(std::int32_t number) {
  Value value(Spec{{}, DType::i32});
  value.as<std::int32_t>()[0] = number;
  return value;
}

std::vector<float> spread(std::int64_t count, unsigned seed, float spacing) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    values[static_cast<std::size_t>(i)] =
        (static_cast<float>(i) - static_cast<float>(count / 2) + 0.5F) * spacing;
  }
  std::shuffle(values.begin(), values.end(), std::mt19937(seed));
  return values;
}

double difference(const Value& a, const Value& b) {
  if (a.spec != b.spec) return INFINITY;
  double gap = 0.0, size = 1.0;
  for (std::size_t i = 0; i < a.as<float>().size(); ++i) {
    const double x = a.as<float>()[i], y = b.as<float>()[i];
    if (std::isnan(x) != std::isnan(y)) return INFINITY;
    gap = std::max(gap, std::abs(x - y));
    size = std::max(size, std::abs(y));
  }
  return gap / size;
}

Value in_layout(const Value& from, Layout layout) {
  if (from.spec.layout == layout || from.spec.shape.rank() != 4) return from;
  Value to(from.spec);
  to.spec.layout = layout;
  const Shape& shape = from.spec.shape;
  const Shape a = from.spec.strides(), b = to.spec.strides();
  const std::size_t size = size_of(from.spec.dtype);
  for (std::int64_t i = 0; i < shape.count(); ++i) {
    std::int64_t rest = i, at_a = 0, at_b = 0;
    for (int axis = 3; axis >= 0; --axis) {
      at_a += rest % shape[axis] * a[axis];
      at_b += rest % shape[axis] * b[axis];
      rest /= shape[axis];
    }
    std::memcpy(to.bytes.data() + static_cast<std::size_t>(at_b) * size,
                from.bytes.data() + static_cast<std::size_t>(at_a) * size, size);
  }
  return to;
}

std::vector<Value> in_wanted_layouts(const OpDef& op, std::vector<Value> inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].spec.shape.rank() != 4) continue;
    Layout layout = inputs[0].spec.shape.rank() == 4 ? inputs[0].spec.layout : Layout::row_major;
    if (i < op.wants.size() && op.wants[i]) layout = *op.wants[i];
    inputs[i] = in_layout(inputs[i], layout);
  }
  return inputs;
}

namespace {

std::vector<Spec> specs(const std::vector<Value>& values) {
  std::vector<Spec> result;
  for (const Value& value : values) result.push_back(value.spec);
  return result;
}

/// A view's bytes, as far as its inputs lie in it.
void copy_view(const OpDef& op, const Site& site, const std::vector<Value>& inputs, Value& output) {
  const std::vector<std::ptrdiff_t> begins = op.view(site);
  for (std::size_t i = 0; i < begins.size(); ++i) {
    for (std::size_t byte = 0; byte < inputs[i].spec.bytes(); ++byte) {
      const std::ptrdiff_t at = begins[i] + static_cast<std::ptrdiff_t>(byte);
      if (at >= 0 && at < static_cast<std::ptrdiff_t>(output.spec.bytes()))
        output.bytes.data()[at] = inputs[i].bytes.data()[byte];
    }
  }
}

void launch(const Kernel& kernel, const std::vector<void*>& in, const std::vector<void*>& out) {
  Buffer workspace(kernel.workspace_bytes);
  void* scratch = workspace.data();
  kernel.run({in.data(), out.data(), &scratch});
  if (!workspace.intact_behind(kernel.workspace_bytes))
    throw std::logic_error("a kernel has written beyond its workspace");
}

void check_guards(const std::vector<Value>& outputs) {
  for (const Value& value : outputs) {
    if (!value.bytes.intact_behind(value.spec.bytes()))
      throw std::logic_error("a kernel has written beyond an output");
  }
}

}  // namespace

std::vector<Value> run_kernel(const Kernel& kernel, const std::vector<Value>& inputs,
                              const std::vector<Spec>& outputs) {
  std::vector<Value> results;
  for (const Spec& spec : outputs) results.emplace_back(spec);
  std::vector<void*> in, out;
  for (const Value& value : inputs) in.push_back(const_cast<std::byte*>(value.bytes.data()));
  for (Value& value : results) out.push_back(value.bytes.data());
  launch(kernel, in, out);
  check_guards(results);
  for (Value& value : results) value = in_layout(value, Layout::row_major);
  return results;
}

std::vector<Value> run_op(const OpDef& op, const Attributes& attributes,
                          const std::vector<Value>& given, bool alias) {
  const std::vector<Value> inputs = in_wanted_layouts(op, given);
  const std::vector<Spec> in_specs = specs(inputs);
  const std::vector<Spec> out_specs = op.infer({in_specs, {}, attributes});
  const Site site{in_specs, out_specs, attributes};
  std::vector<Value> results;
  for (const Spec& spec : out_specs) results.emplace_back(spec);
  std::vector<void*> in, out;
  for (const Value& value : inputs) in.push_back(const_cast<std::byte*>(value.bytes.data()));
  for (std::size_t i = 0; i < results.size(); ++i) {
    const auto over = static_cast<std::size_t>(op.overwrites);
    const bool updates = static_cast<int>(i) < op.updates;
    if (updates) results[i] = inputs[i], in[i] = results[i].bytes.data();
    if (alias && i == 0) results[0] = inputs[over], in[over] = results[0].bytes.data();
    out.push_back(results[i].bytes.data());
  }
  if (op.view != nullptr) {
    copy_view(op, site, inputs, results[0]);
  } else {
    launch(op.cpu(site), in, out);
    check_guards(results);
  }
  for (Value& value : results) value = in_layout(value, Layout::row_major);
  return results;
}

void Evaluation::set(Tensor tensor, Value value) {
  if (value.spec != tensor.spec()) throw std::logic_error("a value does not fit its tensor");
  values_.resize(static_cast<std::size_t>(graph_.tensors.size()));
  values_[static_cast<std::size_t>(tensor.id)] = std::move(value);
}

void Evaluation::set(Tensor tensor, std::span<const float> values) {
  set(tensor, floats(tensor.shape(), values));
}

void Evaluation::run(std::size_t nodes) {
  values_.resize(static_cast<std::size_t>(graph_.tensors.size()));
  for (std::size_t i = 0; i < std::min(nodes, graph_.nodes.size()); ++i) {
    const Node& node = graph_.nodes[i];
    std::vector<Value> made = run_op(*node.op, node.attributes, inputs(node));
    for (std::size_t k = 0; k < made.size(); ++k)
      values_[static_cast<std::size_t>(node.outputs[k])] = std::move(made[k]);
  }
}

std::vector<Value> Evaluation::inputs(const Node& node) const {
  std::vector<Value> result;
  for (const int id : node.inputs) result.push_back(values_[static_cast<std::size_t>(id)]);
  return result;
}

}  // namespace poolgrad::testing
