// matmul: left · right with either stored transposed, plus bias, plus ReLU where fused; and its
// twin, which adds the product to a matrix. linear() is one use of it.
#include "engine/backend/loops.h"
#include "engine/backend/onednn.h"
#include "engine/backend/product.h"
#include "engine/cuda/kernels.h"
#include "engine/ops.h"
#include "engine/ops/check.h"
#include "engine/ops/relu.h"
#include "engine/ops/settings.h"

namespace poolgrad {
namespace {

using settings::Matmul;

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
  return {{{left[s.transpose_left ? 1 : 0], columns}}};
}

// ---- kernels

/// What both implementations are made of.
struct Problem {
  Matmul settings;
  Product product;
  int left = 0, right = 1;   // which inputs they are
  int bias = -1, rate = -1;  // -1: none

  Problem(const Site& site, bool add) : settings(site.attributes.as<Matmul>()) {
    if (add) left = 1, right = 2;
    const int next = right + 1;
    if (site.inputs.size() > static_cast<std::size_t>(next) && settings.by_rate) {
      rate = next;
    } else if (site.inputs.size() > static_cast<std::size_t>(next) && settings.biased) {
      bias = next;
    }
    const Spec& a = site.inputs[static_cast<std::size_t>(left)];
    const Spec& b = site.inputs[static_cast<std::size_t>(right)];
    const Spec& c = site.outputs[0];
    product = {.m = c.shape[0],
               .n = c.shape[1],
               .k = a.shape[settings.transpose_left ? 0 : 1],
               .a_stride = a.strides()[0],
               .b_stride = b.strides()[0],
               .c_stride = c.strides()[0],
               .transpose_a = settings.transpose_left,
               .transpose_b = settings.transpose_right,
               .keep = add ? settings.keep : 0.0F};
  }
};

Kernel by_eigen(const Problem& p) {
  return {[p, call = product_call()](const Args& a) {
            Product product = p.product;
            if (p.rate >= 0) product.factor = -*a.in<float>(p.rate);
            call(product, a.in<float>(p.left), a.in<float>(p.right), a.out<float>(), a.workspace());
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

/// An operand whose stored rows have gaps, where oneDNN would pack it in memory of its own: copied
/// into the workspace first, one row after the other.
struct Gather {
  std::int64_t rows = 0, columns = 0, stride = 0;
  std::size_t at = 0;  // in the workspace

  [[nodiscard]] bool needed() const { return columns != stride; }
  [[nodiscard]] std::size_t bytes() const {
    return needed() ? memory::aligned(static_cast<std::size_t>(rows * columns) * sizeof(float)) : 0;
  }
  const float* operator()(const float* from, const Args& args) const {
    if (!needed()) return from;
    auto* to = reinterpret_cast<float*>(args.workspace(at));
    for (std::int64_t row = 0; row < rows; ++row)
      std::copy_n(from + row * stride, columns, to + row * columns);
    return to;
  }
};

dnnl::memory::desc matrix(std::int64_t rows, std::int64_t columns, bool transposed,
                          std::int64_t stride) {
  using Dims = dnnl::memory::dims;
  return {{rows, columns},
          dnnl::memory::data_type::f32,
          transposed ? Dims{1, stride} : Dims{stride, 1}};
}

Kernel by_onednn(const Problem& p) {
  const Product& q = p.product;
  const Gather left = q.transpose_a ? Gather{q.k, q.m, q.a_stride} : Gather{q.m, q.k, q.k};
  const Gather right = q.transpose_b ? Gather{q.n, q.k, q.b_stride, left.bytes()}
                                     : Gather{q.k, q.n, q.b_stride, left.bytes()};
  const auto a = matrix(q.m, q.k, q.transpose_a, q.transpose_a ? q.m : q.a_stride);
  const auto b = matrix(q.k, q.n, q.transpose_b, right.columns);
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
            const float* from_left = left(k.in<float>(p.left), k);
            const float* from_right = right(k.in<float>(p.right), k);
            const float factor = p.rate < 0 ? 1.0F : -*k.in<float>(p.rate);
            const void* extra = p.rate >= 0 ? &factor : p.bias >= 0 ? k.inputs[p.bias] : nullptr;
            std::byte* scratch = k.workspace(left.bytes() + right.bytes());
            if (extra == nullptr) {
              product.run({from_left, from_right, k.outputs[0], scratch});
            } else {
              product.run({from_left, from_right, k.outputs[0], extra, scratch});
            }
          },
          left.bytes() + right.bytes() + product.scratch_bytes()};
}

/// oneDNN packs what stands right. Where that is a transposed weight and left has few rows, it is
/// cheaper to have the rows packed, and to turn the result, which is small.
bool can_be_turned(const Problem& p) {
  const Product& q = p.product;
  return q.transpose_b && !q.transpose_a && q.keep == 0.0F && p.rate < 0 && q.c_stride == q.n;
}
bool is_better_turned(const Product& q) { return q.m <= 32 && q.n >= 2 * q.m; }

Kernel by_onednn_turned(const Problem& p) {
  const Product& q = p.product;
  const auto a = matrix(q.n, q.k, false, q.b_stride), b = matrix(q.k, q.m, true, q.a_stride);
  const auto c = matrix(q.n, q.m, false, q.m);
  const dnnl::matmul::primitive_desc made(dnnl::matmul::desc(a, b, c), onednn::attributes(),
                                          onednn::cpu());
  onednn::refuse(made);
  const onednn::Primitive product("matmul", dnnl::matmul(made), made,
                                  {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
  const std::size_t result = memory::aligned(static_cast<std::size_t>(q.m * q.n) * sizeof(float));
  return {[=](const Args& k) {
            product.run(
                {k.in<float>(p.right), k.in<float>(p.left), k.workspace(), k.workspace(result)});
            loops::turn(reinterpret_cast<const float*>(k.workspace()),
                        p.bias < 0 ? nullptr : k.in<float>(p.bias), p.settings.relu, k.out<float>(),
                        q.m, q.n);
          },
          result + product.scratch_bytes()};
}
#endif

std::string words(const Problem& p) {
  const Product& q = p.product;
  const auto gaps = [](const char* of, std::int64_t stride, std::int64_t columns) {
    return stride == columns ? std::string() : text(", ", of, " by ", stride);
  };
  return text("m ", q.m, ", n ", q.n, ", k ", q.k, q.transpose_a ? ", left transposed" : "",
              q.transpose_b ? ", right transposed" : "",
              gaps("left", q.a_stride, q.transpose_a ? q.m : q.k),
              gaps("right", q.b_stride, q.transpose_b ? q.k : q.n), gaps("sum", q.c_stride, q.n),
              q.keep == 0.0F   ? ""
              : q.keep == 1.0F ? ", added"
                               : ", added to a part",
              p.rate >= 0 ? ", by a rate" : "", p.bias >= 0 ? ", bias" : "",
              p.settings.relu ? ", relu" : "");
}

template <bool kAdd>
Candidates matmul_candidates(const Site& site) {
  const Problem p(site, kAdd);
  Candidates all{words(p), {{"eigen", [p] { return std::optional(by_eigen(p)); }}}};
#ifdef POOLGRAD_ONEDNN
  auto& list = all.best_first;
  const auto insert = [&list](bool best, const Candidate& candidate) {
    list.insert(best ? list.begin() : list.end(), candidate);
  };
  const bool eigen_first = eigen_is_faster(p.product);
  insert(!eigen_first,
         {"onednn", [p] { return onednn::prepare("matmul", [&] { return by_onednn(p); }); }});
  if (can_be_turned(p)) {
    insert(
        !eigen_first && is_better_turned(p.product),
        {"turned", [p] { return onednn::prepare("matmul", [&] { return by_onednn_turned(p); }); }});
  }
#endif
  return all;
}

// ---- definitions

Attributes bias_once(const Attributes& attributes, Rows columns) {
  auto settings = attributes.as<Matmul>();
  settings.biased = settings.biased && columns.begin == 0;
  return settings;
}

/// The result has rows of left and columns of right; what both have in common is added up. Cheapest
/// to combine first: rows of the batch.
std::vector<Cut> matmul_cuts(const Site& site) {
  using enum Share;
  const auto settings = site.attributes.as<Matmul>();
  const Share outer_left = settings.transpose_left ? columns : rows,
              inner_left = settings.transpose_left ? rows : columns,
              outer_right = settings.transpose_right ? rows : columns,
              inner_right = settings.transpose_right ? columns : rows;
  const Cut by_left{{outer_left}, {rows}}, by_right{{whole, outer_right, rows}, {columns}},
      inside{{inner_left, inner_right}, {sum}, bias_once};
  if (settings.relu) return {by_left, by_right};
  if (settings.transpose_left) return {inside, by_left, by_right};
  return {by_left, by_right, inside};
}

/// A sum with rows or columns of its own takes as many of the product.
std::vector<Cut> matmul_add_cuts(const Site& site) {
  using enum Share;
  const auto settings = site.attributes.as<Matmul>();
  return {{{rows, settings.transpose_left ? columns : rows}, {rows}},
          {{columns, whole, settings.transpose_right ? rows : columns}, {columns}}};
}

std::vector<Tensor> matmul_backward(const Backward& b);

std::int64_t matmul_flops(const Site& site, bool add) {
  const Product p = Problem(site, add).product;
  return 2 * p.m * p.n * p.k;
}

constexpr OpDef kMatmulAdd{
    .name = "matmul_add",  // sum, left, right, perhaps a bias or a rate -> sum
    .infer = same_as_first,
    .updates = 1,
    .flops = [](const Site& site) { return matmul_flops(site, true); },
    .cuts = matmul_add_cuts,
    .cpu = by_rule<matmul_candidates<true>>,
    .candidates = matmul_candidates<true>,
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
    .cpu = by_rule<matmul_candidates<false>>,
    .cuda = kCuda ? cuda::matmul : nullptr,
    .candidates = matmul_candidates<false>,
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
