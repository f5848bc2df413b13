// matmul: left · right with either stored transposed, plus bias, plus ReLU where fused; and its
// twin, which adds the product to a matrix. linear() is one use of it.
#include "engine/backend/loops.h"
#include "engine/backend/onednn.h"
#include "engine/backend/product.h"
#include "engine/ops.h"
#include "engine/ops/check.h"
#include "engine/ops/relu.h"

namespace poolgrad {
namespace {

struct Matmul {
  bool transpose_left = false, transpose_right = false;
  bool relu = false;     // set by fusing
  bool linear = false;   // for the errors: x and weight, not left and right
  Rows rows{0, -1};      // of the product, where left is transposed; end -1: all
  float keep = 1.0F;     // of what the product is added to
  bool by_rate = false;  // subtracted, times a rate, instead of added
  bool operator==(const Matmul&) const = default;
};

// ---- infer

[[noreturn]] void throw_mismatch(const Matmul& s, const Shape& left, const Shape& right) {
  if (s.linear) {
    throw ShapeError(text("linear: x ", left, " has ", left[1], " features but weight ", right,
                          " takes ", right[1], "; make them equal"));
  }
  if (s.transpose_right) {
    throw ShapeError(text("matmul: left ", left, " has ", left[1], " columns but right ", right,
                          ", which is transposed, has ", right[1], "; make them equal"));
  }
  throw ShapeError(text("matmul: left ", left, " has ", left[s.transpose_left ? 0 : 1],
                        " columns but right ", right, " has ", right[0],
                        " rows; make them equal or transpose one"));
}

std::vector<Spec> matmul_infer(const Site& site) {
  const auto s = site.attributes.as<Matmul>();
  const Shape &left = site.inputs[0].shape, &right = site.inputs[1].shape;
  const std::string_view op = s.linear ? "linear" : "matmul";
  const std::array<std::string_view, 2> names{s.linear ? "x" : "left",
                                              s.linear ? "weight" : "right"};
  for (std::size_t i = 0; i < 2; ++i) {
    const Spec& operand = site.inputs[i];
    if (operand.shape.rank() != 2) {
      throw ShapeError(text(op, ": ", names[i], " ", operand.shape, " has ", operand.shape.rank(),
                            " axes; reshape it to a matrix"));
    }
    check_f32(op, names[i], operand);
  }
  if (left[s.transpose_left ? 0 : 1] != right[s.transpose_right ? 1 : 0])
    throw_mismatch(s, left, right);
  const std::int64_t columns = right[s.transpose_right ? 0 : 1];
  if (site.inputs.size() == 3 && site.inputs[2] != Spec{{columns}}) {
    throw ShapeError(text(op, ": bias ", site.inputs[2].shape, " of ", site.inputs[2].dtype,
                          " does not fit ", names[1], " ", right, "; make it [", columns,
                          "] of float32"));
  }
  return {{{s.rows.end < 0 ? left[s.transpose_left ? 1 : 0] : s.rows.count(), columns}}};
}

// ---- kernels

/// What both implementations are made of.
struct Problem {
  Matmul settings;
  Product product;
  std::ptrdiff_t first = 0;  // of left, in values: where the wanted rows of the product begin
  int left = 0, right = 1;   // which inputs they are
  int bias = -1, rate = -1;  // -1: none

  Problem(const Site& site, bool add) : settings(site.attributes.as<Matmul>()) {
    if (add) left = 1, right = 2;
    if (!add && site.inputs.size() == 3) bias = 2;
    if (settings.by_rate) rate = 3;
    const Shape& a = site.inputs[static_cast<std::size_t>(left)].shape;
    const Shape& b = site.inputs[static_cast<std::size_t>(right)].shape;
    const Shape& c = site.outputs[0].shape;
    product = {.m = c[0],
               .n = c[1],
               .k = a[settings.transpose_left ? 0 : 1],
               .a_stride = a[1],
               .b_stride = b[1],
               .c_stride = c[1],
               .transpose_a = settings.transpose_left,
               .transpose_b = settings.transpose_right,
               .keep = add ? settings.keep : 0.0F};
    if (settings.rows.end >= 0) first = settings.rows.begin;
  }
};

Kernel by_eigen(const Problem& p) {
  return {[p, call = product_call()](const Args& a) {
            Product product = p.product;
            if (p.rate >= 0) product.factor = -*a.in<float>(p.rate);
            call(product, a.in<float>(p.left) + p.first, a.in<float>(p.right), a.out<float>(),
                 a.workspace());
            const float* bias = p.bias < 0 ? nullptr : a.in<float>(p.bias);
            if (bias != nullptr || p.settings.relu)
              loops::bias_relu(bias, p.settings.relu, a.out<float>(), p.product.m, p.product.n);
          },
          workspace_bytes(p.product)};
}

#ifdef POOLGRAD_ONEDNN
/// Where a call of oneDNN costs more than the product, and where its kernels are half as fast: with
/// AVX2 and many outputs, plain weights are walked across.
bool eigen_is_faster(const Product& p) {
  if (p.m * p.n * p.k <= 64 << 10) return true;
  return p.transpose_b && p.n >= 512 && dnnl::get_effective_cpu_isa() < dnnl::cpu_isa::avx512_core;
}

/// Some columns of a stored matrix, one row after the other without gaps.
const float* gathered(const float* from, std::int64_t stride, std::int64_t rows,
                      std::int64_t columns, std::byte* workspace) {
  auto* to = reinterpret_cast<float*>(workspace);
  for (std::int64_t row = 0; row < rows; ++row)
    std::copy_n(from + row * stride, columns, to + row * columns);
  return to;
}

Kernel by_onednn(const Problem& p) {
  using Dims = dnnl::memory::dims;
  const auto matrix = [](std::int64_t rows, std::int64_t columns, bool transposed,
                         std::int64_t stride) {
    return dnnl::memory::desc({rows, columns}, dnnl::memory::data_type::f32,
                              transposed ? Dims{1, stride} : Dims{stride, 1});
  };
  const Product& q = p.product;
  // A transposed operand with gaps has an implementation only that packs it in memory of its own.
  const bool gather = q.transpose_a && q.a_stride != q.m;
  const std::size_t gathered_bytes =
      gather ? memory::aligned(static_cast<std::size_t>(q.m * q.k) * sizeof(float)) : 0;
  const auto a = matrix(q.m, q.k, q.transpose_a, gather ? q.m : q.a_stride);
  const auto b = matrix(q.k, q.n, q.transpose_b, q.b_stride);
  const auto c = matrix(q.m, q.n, false, q.c_stride), bias = matrix(1, q.n, false, q.n);
  const dnnl::matmul::primitive_desc made(
      p.bias < 0 ? dnnl::matmul::desc(a, b, c) : dnnl::matmul::desc(a, b, bias, c),
      onednn::attributes({.scaled = p.rate >= 0, .keep = q.keep, .relu = p.settings.relu}),
      onednn::cpu());
  onednn::refuse(made);
  std::vector<onednn::Primitive::Operand> operands{
      {DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}};
  if (p.bias >= 0) operands.push_back({DNNL_ARG_BIAS, bias});
  if (p.rate >= 0) operands.push_back({DNNL_ARG_ATTR_OUTPUT_SCALES, onednn::desc({{1}})});
  const onednn::Primitive product("matmul", dnnl::matmul(made), made, operands);
  return {[=](const Args& k) {
            const float* left = k.in<float>(p.left) + p.first;
            if (gather) left = gathered(left, q.a_stride, q.k, q.m, k.workspace());
            const float factor = p.rate < 0 ? 1.0F : -*k.in<float>(p.rate);
            const void* extra = p.rate >= 0 ? &factor : p.bias >= 0 ? k.inputs[p.bias] : nullptr;
            std::byte* scratch = k.workspace(gathered_bytes);
            if (extra == nullptr) {
              product.run({left, k.inputs[p.right], k.outputs[0], scratch});
            } else {
              product.run({left, k.inputs[p.right], k.outputs[0], extra, scratch});
            }
          },
          gathered_bytes + product.scratch_bytes()};
}
#endif

Kernel matmul_cpu(const Site& site, bool add) {
  const Problem problem(site, add);
#ifdef POOLGRAD_ONEDNN
  if (!eigen_is_faster(problem.product)) {
    if (auto kernel = onednn::prepare("matmul", [&] { return by_onednn(problem); })) return *kernel;
  }
#endif
  return by_eigen(problem);
}

// ---- definitions

Attributes some_rows(const Attributes& attributes, Rows rows) {
  auto settings = attributes.as<Matmul>();
  settings.rows = rows;
  return settings;
}

/// A product with left transposed is a sum over rows of both, or has rows of its own.
std::vector<Cut> matmul_cuts(const Site& site) {
  using enum Share;
  const auto settings = site.attributes.as<Matmul>();
  if (!settings.transpose_left) return {{{rows}, {rows}}};
  if (settings.rows.end >= 0) return {};
  return {{{rows, rows}, {sum}}, {{whole, whole}, {rows}, some_rows}};
}

/// A sum with rows of its own takes as many rows of the product.
std::vector<Cut> matmul_add_cuts(const Site& site) {
  const auto settings = site.attributes.as<Matmul>();
  if (!settings.transpose_left || settings.rows.end >= 0) return {};
  return {{{Share::rows}, {Share::rows}, some_rows}};
}

std::vector<Tensor> matmul_backward(const Backward& b);

std::int64_t matmul_flops(const Site& site, bool add) {
  const Product p = Problem(site, add).product;
  return 2 * p.m * p.n * p.k;
}

constexpr OpDef kMatmulAdd{
    .name = "matmul_add",  // sum, left, right, perhaps a rate -> sum
    .infer = same_as_first,
    .updates = 1,
    .flops = [](const Site& site) { return matmul_flops(site, true); },
    .cuts = matmul_add_cuts,
    .cpu = [](const Site& site) { return matmul_cpu(site, true); },
};

constexpr OpDef kMatmul{
    .name = "matmul",  // left, right, perhaps bias
    .infer = matmul_infer,
    .backward = matmul_backward,
    .absorb = [](const Node& self, const Node& next) -> std::optional<Attributes> {
      auto settings = self.attributes.as<Matmul>();
      if (next.op != &kRelu || settings.relu) return {};
      settings.relu = true;
      return settings;
    },
    .flops = [](const Site& site) { return matmul_flops(site, false); },
    .cuts = matmul_cuts,
    .adds = &kMatmulAdd,
    .onto = [](const Attributes& attributes, float keep, bool by_rate) -> Attributes {
      auto settings = attributes.as<Matmul>();
      settings.keep = keep;
      settings.by_rate = by_rate;
      return settings;
    },
    .cpu = [](const Site& site) { return matmul_cpu(site, false); },
};

Tensor product(Tensor left, Tensor right, bool transpose_left, bool transpose_right) {
  const Matmul settings{.transpose_left = transpose_left, .transpose_right = transpose_right};
  return left.graph->add(kMatmul, {left, right}, settings)[0];
}

/// y = op(left) · op(right): each gradient is a product that leaves its operand stored as it is.
std::vector<Tensor> matmul_backward(const Backward& b) {
  const auto s = b.attributes.as<Matmul>();
  const Tensor left = b.inputs[0], right = b.inputs[1];
  const Tensor dy = s.relu ? relu_grad(b.outputs[0], b.dy[0]) : b.dy[0];
  std::vector<Tensor> grads(b.inputs.size());
  grads[0] = s.transpose_left ? product(right, dy, s.transpose_right, true)
                              : product(dy, right, false, !s.transpose_right);
  grads[1] = s.transpose_right ? product(dy, left, true, s.transpose_left)
                               : product(left, dy, !s.transpose_left, false);
  if (grads.size() == 3) grads[2] = sum_rows(dy);
  return grads;
}

Tensor build(Tensor left, Tensor right, Tensor bias, const Matmul& settings) {
  std::vector<Tensor> inputs{left, right};
  if (bias) inputs.push_back(bias);
  return left.graph->add(kMatmul, inputs, settings)[0];
}

}  // namespace

Tensor matmul(Tensor left, Tensor right, Tensor bias, bool transpose) {
  return build(left, right, bias, {.transpose_right = transpose});
}

Tensor linear(Tensor x, Tensor weight, Tensor bias) {
  return build(x, weight, bias, {.transpose_right = true, .linear = true});
}

}  // namespace poolgrad
