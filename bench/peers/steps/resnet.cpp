// resnet_small (SGD with momentum), by hand, for AVX-512: images are blocked by 16 channels. A
// member works through its part of the batch a few images at a time. Stored are the outputs of
// convolutions and blocks; batch norm + ReLU is the first thing done to a chunk before what reads
// it, and is done again in the backward pass. Gradients overwrite the activations they replace.
// Sums of batch norm are taken while a chunk is hot, and added up across images in double.
// Running statistics are not kept.
#include "bench/peers/steps/lanes.h"
#include "bench/peers/steps/step.h"

using namespace steps;

namespace {

constexpr float kRate = 0.05F;
constexpr std::array<Index, 3> kChunks{4, 8, 16};  // images at a time, by stage
constexpr Index kMostParameters = 1 << 18;
constexpr Index kStem = 16 * 28 * 28;  // values per image

template <typename T>
using PerMember = std::array<T, kMostMembers>;
std::size_t slot(int member) { return static_cast<std::size_t>(member); }

// --- loops over [images][groups of 16 channels][places][16] --------------------------------------

/// Where a chunk is: so many images, groups of channels, and places.
struct Extent {
  Index images = 0;
  int groups = 0;
  Index places = 0;
  [[nodiscard]] Index begin(Index image, int group) const {
    return (image * groups + group) * places * 16;
  }
};

void add_to_sums(double* sums, Lanes lanes) {
  std::array<float, 16> values;
  store(values.data(), lanes);
  for (std::size_t j = 0; j < 16; ++j) sums[j] += values[j];
}

/// sums [2, channels] += x and x².
void statistics(const float* x, const Extent& e, double* sums) {
  for (Index m = 0; m < e.images; ++m) {
    for (int c = 0; c < e.groups; ++c) {
      Lanes sum[4], square[4];
      for (int k = 0; k < 4; ++k) sum[k] = square[k] = zero();
      const float* p = x + e.begin(m, c);
      for (Index i = 0; i < e.places; i += 4) {
        const int several = static_cast<int>(std::min<Index>(4, e.places - i));
        for (int k = 0; k < several; ++k) {
          const Lanes value = load(p + (i + k) * 16);
          sum[k] = sum[k] + value;
          square[k] = fma(value, value, square[k]);
        }
      }
      add_to_sums(sums + c * 16, (sum[0] + sum[1]) + (sum[2] + sum[3]));
      add_to_sums(sums + (e.groups + c) * 16, (square[0] + square[1]) + (square[2] + square[3]));
    }
  }
}

/// y = max(scale · x + shift, 0)
void apply(const float* x, float* y, const Extent& e, const float* scale, const float* shift) {
  for (Index m = 0; m < e.images; ++m) {
    for (int c = 0; c < e.groups; ++c) {
      const Lanes a = load(scale + c * 16), b = load(shift + c * 16);
      for (Index i = e.begin(m, c), end = i + e.places * 16; i < end; i += 16)
        store(y + i, max(fma(load(x + i), a, b), zero()));
    }
  }
}

/// y = max(scale · x + shift + residual, 0); the residual may have a scale and shift of its own.
void apply_and_add(const float* x, const float* residual, float* y, const Extent& e,
                   const float* scale, const float* shift, const float* residual_scale,
                   const float* residual_shift) {
  for (Index m = 0; m < e.images; ++m) {
    for (int c = 0; c < e.groups; ++c) {
      const Lanes a = load(scale + c * 16), b = load(shift + c * 16);
      const Lanes ra = residual_scale != nullptr ? load(residual_scale + c * 16) : same(1.0F);
      const Lanes rb = residual_scale != nullptr ? load(residual_shift + c * 16) : zero();
      for (Index i = e.begin(m, c), end = i + e.places * 16; i < end; i += 16)
        store(y + i, max(fma(load(x + i), a, b) + fma(load(residual + i), ra, rb), zero()));
    }
  }
}

/// What masked() reads: the gradient, or one value per image and channel of it.
struct Gradient {
  const float* all = nullptr;
  const float* per_channel = nullptr;
};

/// d = gradient where y > 0, else 0; sums [3, channels] += d, d · x, and d · residual if there is
/// one.
void masked(Gradient gradient, const float* y, float* d, const float* x, const float* residual,
            const Extent& e, double* sums) {
  const int channels = e.groups * 16;
  for (Index m = 0; m < e.images; ++m) {
    for (int c = 0; c < e.groups; ++c) {
      Lanes sum[2], with_x[2], with_residual[2];
      for (int k = 0; k < 2; ++k) sum[k] = with_x[k] = with_residual[k] = zero();
      const bool constant = gradient.per_channel != nullptr;
      const Lanes all = constant ? load(gradient.per_channel + m * channels + c * 16) : zero();
      const auto take = [&](Index i, int k) {
        const Mask alive = greater(load(y + i), zero());
        const Lanes value = keep(alive, constant ? all : load(gradient.all + i));
        store(d + i, value);
        sum[k] = sum[k] + value;
        with_x[k] = fma(value, load(x + i), with_x[k]);
        if (residual != nullptr)
          with_residual[k] = fma(value, load(residual + i), with_residual[k]);
      };
      Index i = e.begin(m, c);
      const Index end = i + e.places * 16;
      for (; i + 32 <= end; i += 32) {
        take(i, 0);
        take(i + 16, 1);
      }
      for (; i < end; i += 16) take(i, 0);
      add_to_sums(sums + c * 16, sum[0] + sum[1]);
      add_to_sums(sums + channels + c * 16, with_x[0] + with_x[1]);
      if (residual != nullptr)
        add_to_sums(sums + 2 * channels + c * 16, with_residual[0] + with_residual[1]);
    }
  }
}

/// dx = a · dy + b · x + k
void norm_backward(const float* dy, const float* x, float* dx, const Extent& e, const float* a,
                   const float* b, const float* k) {
  for (Index m = 0; m < e.images; ++m) {
    for (int c = 0; c < e.groups; ++c) {
      const Lanes la = load(a + c * 16), lb = load(b + c * 16), lk = load(k + c * 16);
      for (Index i = e.begin(m, c), end = i + e.places * 16; i < end; i += 16)
        store(dx + i, fma(load(dy + i), la, fma(load(x + i), lb, lk)));
    }
  }
}

/// The first convolution: one padded image -> [28 · 28][16]; weight [9, 16].
void stem_forward(const float* padded, const float* weight, float* y) {
  Lanes w[9];
  for (int k = 0; k < 9; ++k) w[k] = load(weight + k * 16);
  for (int i = 0; i < 28; ++i) {
    for (int j = 0; j < 28; j += 7) {
      const float* p = padded + i * 32 + j;
      Lanes sum[7];
      for (auto& one : sum) one = zero();
#pragma GCC unroll 9
      for (int k = 0; k < 9; ++k) {
#pragma GCC unroll 7
        for (int q = 0; q < 7; ++q) sum[q] = fma(same(p[k / 3 * 32 + k % 3 + q]), w[k], sum[q]);
      }
      for (int q = 0; q < 7; ++q) store(y + (i * 28 + j + q) * 16, sum[q]);
    }
  }
}

/// Adds to grad_weight [9, 16] what one image gives; the gradient of batch norm is taken on the
/// way.
void stem_backward(const float* padded, const float* dy, const float* x, const float* a,
                   const float* b, const float* k, float* grad_weight) {
  Lanes w[9];
  const Lanes la = load(a), lb = load(b), lk = load(k);
  for (int t = 0; t < 9; ++t) w[t] = load(grad_weight + t * 16);
  for (int i = 0; i < 28; ++i) {
    for (int j = 0; j < 28; ++j) {
      const float* p = padded + i * 32 + j;
      const Index o = (i * 28 + j) * 16;
      const Lanes d = fma(load(dy + o), la, fma(load(x + o), lb, lk));
#pragma GCC unroll 9
      for (int t = 0; t < 9; ++t) w[t] = fma(same(p[t / 3 * 32 + t % 3]), d, w[t]);
    }
  }
  for (int t = 0; t < 9; ++t) store(grad_weight + t * 16, w[t]);
}

// --- parameters, norms, convolutions -------------------------------------------------------------

/// All parameters lie end to end, and so do their momentum and, per member, their gradients.
float *parameters, *momentum;
PerMember<float*> gradients;
Index parameter_count = 0;

Index new_parameters(Index count) {
  return std::exchange(parameter_count, parameter_count + count);
}

struct Norm {
  int channels = 0;
  Index offset = 0;                                     // of the weight; the bias comes next
  double count = 0.0;                                   // values per channel
  PerMember<double*> sums{}, grad_sums{};               // statistics()'s and masked()'s
  PerMember<float*> scale{}, shift{};                   // forward
  PerMember<float*> dy_scale{}, x_scale{}, constant{};  // backward: norm_backward()'s a, b, k
  PerMember<std::array<double, 64>> mean{}, inverse{};  // inverse standard deviation
};

void make(Norm& norm, int channels, Index places, Weights& weights) {
  norm.channels = channels;
  norm.offset = new_parameters(2 * channels);
  std::memcpy(parameters + norm.offset, weights.next(2 * channels),
              static_cast<std::size_t>(2 * channels) * sizeof(float));
  norm.count = static_cast<double>(batch * places);
  for (int member = 0; member < members; ++member) {
    norm.sums[slot(member)] = block.work<double>(2 * channels);
    norm.grad_sums[slot(member)] = block.work<double>(3 * channels);
    for (auto* vectors : {&norm.scale, &norm.shift, &norm.dy_scale, &norm.x_scale, &norm.constant})
      (*vectors)[slot(member)] = block.work(channels);
  }
}

void clear_sums(Norm& norm, int member) {
  std::fill_n(norm.sums[slot(member)], 2 * norm.channels, 0.0);
}
void clear_grad_sums(Norm& norm, int member) {
  std::fill_n(norm.grad_sums[slot(member)], 3 * norm.channels, 0.0);
}

double over_members(const PerMember<double*>& sums, Index i) {
  double sum = 0.0;
  for (int member = 0; member < members; ++member) sum += sums[slot(member)][i];
  return sum;
}

/// From the sums of all members: what apply() needs.
void finish_forward(Norm& norm, int member) {
  const std::size_t t = slot(member);
  for (int i = 0; i < norm.channels; ++i) {
    const double mean = over_members(norm.sums, i) / norm.count;
    const double square = over_members(norm.sums, norm.channels + i) / norm.count;
    const double inverse = 1.0 / std::sqrt(square - mean * mean + 1e-5);
    norm.mean[t][slot(i)] = mean;
    norm.inverse[t][slot(i)] = inverse;
    const float* weight = parameters + norm.offset;
    norm.scale[t][i] = static_cast<float>(weight[i] * inverse);
    norm.shift[t][i] = static_cast<float>(weight[norm.channels + i] - mean * norm.scale[t][i]);
  }
}

/// From the sums that `source` holds, the one with x in row `row`: gradients of weight and bias,
/// and what norm_backward() needs.
void finish_backward(Norm& norm, const Norm& source, int row, int member) {
  const std::size_t t = slot(member);
  for (int i = 0; i < norm.channels; ++i) {
    const double sum = over_members(source.grad_sums, i);
    const double with_x = over_members(source.grad_sums, row * norm.channels + i);
    const double mean = norm.mean[t][slot(i)], inverse = norm.inverse[t][slot(i)];
    const double grad_weight = inverse * (with_x - mean * sum);
    const double a = norm.scale[t][i];
    gradients[t][norm.offset + i] = member == 0 ? static_cast<float>(grad_weight) : 0.0F;
    gradients[t][norm.offset + norm.channels + i] = member == 0 ? static_cast<float>(sum) : 0.0F;
    norm.dy_scale[t][i] = static_cast<float>(a);
    norm.x_scale[t][i] = static_cast<float>(-a * inverse * grad_weight / norm.count);
    norm.constant[t][i] =
        static_cast<float>(-a * sum / norm.count + a * inverse * mean * grad_weight / norm.count);
  }
}

struct Convolution {
  Index offset = 0, count = 0;
  PerMember<Op> forward{}, data{}, weight{}, to_backward{};
  PerMember<float*> grad_weight{};

  void run_forward(int member, float* x, float* y) {
    forward[slot(member)].source(x).at(DNNL_ARG_DST, y)();
  }
  void run_data(int member, float* dy, float* dx) {
    data[slot(member)].at(DNNL_ARG_DIFF_DST, dy).at(DNNL_ARG_DIFF_SRC, dx)();
  }
  void run_weight(int member, float* x, float* dy) {
    weight[slot(member)].source(x).at(DNNL_ARG_DIFF_DST, dy)();
  }
  void accumulate(int member) {
    add(gradients[slot(member)] + offset, grad_weight[slot(member)], count);
  }
};

struct Window {
  Index inputs, outputs, height, stride, size, chunk;
};

void make(Convolution& conv, const Window& w, Weights& weights) {
  using namespace dnnl;
  constexpr Format blocked = Format::nChw16c;
  const Index height = w.height / w.stride, left = w.size / 2;
  const Index right = (height - 1) * w.stride + w.size - w.height - left;
  const memory::desc x({w.chunk, w.inputs, w.height, w.height}, kF32, blocked),
      y({w.chunk, w.outputs, height, height}, kF32, blocked),
      any({w.outputs, w.inputs, w.size, w.size}, kF32, Format::any);
  const memory::dims stride{w.stride, w.stride}, before{left, left}, after{right, right};
  const auto direct = algorithm::convolution_direct;
  const primitive_attr attributes = user_scratch();
  const convolution_forward::primitive_desc forward(
      {prop_kind::forward_training, direct, x, any, y, stride, before, after}, attributes, cpu());
  const convolution_backward_data::primitive_desc data({direct, x, any, y, stride, before, after},
                                                       attributes, cpu(), forward);
  const convolution_backward_weights::primitive_desc weight(
      {direct, x, any, y, stride, before, after}, attributes, cpu(), forward);
  if (weight.diff_weights_desc() != forward.weights_desc())
    throw std::runtime_error("steps: a weight and its gradient have different formats");

  conv.count = static_cast<Index>(forward.weights_desc().get_size() / sizeof(float));
  conv.offset = new_parameters(conv.count);
  memory from({{w.outputs, w.inputs, w.size, w.size}, kF32, Format::oihw}, cpu(),
              weights.next(w.outputs * w.inputs * w.size * w.size));
  memory kept(forward.weights_desc(), cpu(), parameters + conv.offset);
  reorder(from, kept).execute(cpu_stream(), from, kept);
  cpu_stream().wait();

  for (int member = 0; member < members; ++member) {
    const std::size_t t = slot(member);
    conv.grad_weight[t] = block.work(conv.count);
    const memory images(x, cpu(), nullptr), results(y, cpu(), nullptr);
    const memory turned(data.weights_desc(), cpu(), block.work(conv.count));
    const memory grad_weight(weight.diff_weights_desc(), cpu(), conv.grad_weight[t]);
    conv.forward[t] = {convolution_forward(forward),
                       {{DNNL_ARG_SRC, images},
                        {DNNL_ARG_WEIGHTS, kept},
                        {DNNL_ARG_DST, results},
                        {DNNL_ARG_SCRATCHPAD, scratch(forward.scratchpad_desc(), member)}}};
    conv.data[t] = {convolution_backward_data(data),
                    {{DNNL_ARG_DIFF_SRC, {x, cpu(), nullptr}},
                     {DNNL_ARG_WEIGHTS, turned},
                     {DNNL_ARG_DIFF_DST, {y, cpu(), nullptr}},
                     {DNNL_ARG_SCRATCHPAD, scratch(data.scratchpad_desc(), member)}}};
    conv.weight[t] = {convolution_backward_weights(weight),
                      {{DNNL_ARG_SRC, {x, cpu(), nullptr}},
                       {DNNL_ARG_DIFF_WEIGHTS, grad_weight},
                       {DNNL_ARG_DIFF_DST, {y, cpu(), nullptr}},
                       {DNNL_ARG_SCRATCHPAD, scratch(weight.scratchpad_desc(), member)}}};
    conv.to_backward[t] = {reorder(reorder::primitive_desc(kept, turned, attributes)),
                           {{DNNL_ARG_FROM, kept}, {DNNL_ARG_TO, turned}}};
  }
}

// --- the network ---------------------------------------------------------------------------------

struct Block {
  Convolution conv1, conv2, shortcut;
  Norm norm1, norm2, norm_shortcut;
  bool has_shortcut = false;
  int groups = 0, input_groups = 0;  // of 16 channels
  Index places = 0, input_places = 0, chunk = 0;
  /// Input, outputs of the convolutions, output. In the backward pass `output` becomes the gradient
  /// after the last ReLU, `y2` the one after the first.
  float *input = nullptr, *y1 = nullptr, *y2 = nullptr, *y_shortcut = nullptr, *output = nullptr;

  [[nodiscard]] Index input_values() const { return input_groups * 16 * input_places; }
  [[nodiscard]] Index values() const { return groups * 16 * places; }
  [[nodiscard]] Extent in() const { return {chunk, input_groups, input_places}; }
  [[nodiscard]] Extent out() const { return {chunk, groups, places}; }
  /// What is added to y2: the shortcut's output, or the input itself.
  [[nodiscard]] float* residual() const { return has_shortcut ? y_shortcut : input; }
};

struct Network {
  Index stem_offset = 0, head_offset = 0;
  Norm stem_norm;
  float *stem = nullptr, *stem_output = nullptr;
  std::array<Block, 6> blocks;
  float *features = nullptr, *logits = nullptr, *grad_logits = nullptr, *grad_features = nullptr;
  PerMember<Op> head{}, head_data{}, head_weight{};
  PerMember<float*> padded{}, chunk1{}, chunk2{}, chunk3{};  // room for a chunk of values
};
Network net;

/// The output of `b` from those of its convolutions, for so many images.
void finish_block(const Block& b, int member, Index image, Index images) {
  const std::size_t t = slot(member);
  const Index at = image * b.values();
  apply_and_add(b.y2 + at, b.residual() + at, b.output + at, {images, b.groups, b.places},
                b.norm2.scale[t], b.norm2.shift[t],
                b.has_shortcut ? b.norm_shortcut.scale[t] : nullptr, b.norm_shortcut.shift[t]);
}

void forward_stem(int member, const Range& rows, const float* images) {
  const std::size_t t = slot(member);
  clear_sums(net.stem_norm, member);
  for (Index i = rows.begin; i < rows.end; ++i) {
    float* y = net.stem + i * kStem;
    timed(member, "stem", [&] {
      pad_image(images + i * peers::kPixels, net.padded[t]);
      stem_forward(net.padded[t], parameters + net.stem_offset, y);
    });
    timed(member, "norm sums", [&] { statistics(y, {1, 1, 784}, net.stem_norm.sums[t]); });
  }
  timed_meet(member);
  finish_forward(net.stem_norm, member);
}

void forward_block(int member, const Range& rows, std::size_t k) {
  const std::size_t t = slot(member);
  Block& b = net.blocks[k];
  for (Norm* norm : {&b.norm1, &b.norm2}) clear_sums(*norm, member);
  if (b.has_shortcut) clear_sums(b.norm_shortcut, member);
  timed(member, "weight reorder", [&] {
    b.conv1.to_backward[t]();
    b.conv2.to_backward[t]();
    if (b.has_shortcut) b.shortcut.to_backward[t]();
  });
  for (Index i = rows.begin; i < rows.end; i += b.chunk) {
    float *x = b.input + i * b.input_values(), *y1 = b.y1 + i * b.values();
    timed(member, "norm apply", [&] {
      if (k > 0) return finish_block(net.blocks[k - 1], member, i, b.chunk);
      apply(net.stem + i * kStem, x, b.in(), net.stem_norm.scale[t], net.stem_norm.shift[t]);
    });
    timed(member, "conv", [&] { b.conv1.run_forward(member, x, y1); });
    timed(member, "norm sums", [&] { statistics(y1, b.out(), b.norm1.sums[t]); });
    if (!b.has_shortcut) continue;
    float* shortcut = b.y_shortcut + i * b.values();
    timed(member, "1x1 conv", [&] { b.shortcut.run_forward(member, x, shortcut); });
    timed(member, "norm sums", [&] { statistics(shortcut, b.out(), b.norm_shortcut.sums[t]); });
  }
  timed_meet(member);
  finish_forward(b.norm1, member);
  if (b.has_shortcut) finish_forward(b.norm_shortcut, member);
  for (Index i = rows.begin; i < rows.end; i += b.chunk) {
    float *y1 = b.y1 + i * b.values(), *y2 = b.y2 + i * b.values(), *hidden = net.chunk1[t];
    timed(member, "norm apply",
          [&] { apply(y1, hidden, b.out(), b.norm1.scale[t], b.norm1.shift[t]); });
    timed(member, "conv", [&] { b.conv2.run_forward(member, hidden, y2); });
    timed(member, "norm sums", [&] { statistics(y2, b.out(), b.norm2.sums[t]); });
  }
  timed_meet(member);
  finish_forward(b.norm2, member);
}

/// Mean over places, linear layer, loss, and back to the gradient before the last ReLU.
float head(int member, const Range& rows, const std::int64_t* labels) {
  const std::size_t t = slot(member);
  Block& b = net.blocks.back();
  const Index row = rows.begin, n = rows.count();
  for (Index i = row; i < rows.end; i += b.chunk) finish_block(b, member, i, b.chunk);
  for (Index i = row; i < rows.end; ++i) {
    for (int c = 0; c < 4; ++c) {
      Lanes sum = zero();
      for (Index place = 0; place < 49; ++place)
        sum = sum + load(b.output + i * b.values() + (c * 49 + place) * 16);
      store(net.features + i * 64 + c * 16, sum * same(1.0F / 49.0F));
    }
  }
  net.head[t]();
  const float loss =
      cross_entropy(net.logits + row * 10, labels + row, net.grad_logits + row * 10, n);
  net.head_data[t]();
  net.head_weight[t]();
  column_sums(net.grad_logits + row * 10, gradients[t] + net.head_offset + 640, n, 10, 10);
  for (Index i = row * 64; i < rows.end * 64; ++i) net.grad_features[i] *= 1.0F / 49.0F;
  clear_grad_sums(b.norm2, member);
  float* y = b.output + row * b.values();
  masked({.per_channel = net.grad_features + row * 64}, y, y, b.y2 + row * b.values(), nullptr,
         {n, 4, 49}, b.norm2.grad_sums[t]);
  return loss;
}

/// The second half of a block: from the gradient of its output (before ReLU) to that of the first
/// norm's output.
void backward_second(int member, const Range& rows, Block& b) {
  const std::size_t t = slot(member);
  float *hidden = net.chunk1[t], *dy = net.chunk2[t], *dx = net.chunk3[t];
  for (Index i = rows.begin; i < rows.end; i += b.chunk) {
    const Index at = i * b.values();
    timed(member, "norm backward", [&] {
      norm_backward(b.output + at, b.y2 + at, dy, b.out(), b.norm2.dy_scale[t], b.norm2.x_scale[t],
                    b.norm2.constant[t]);
    });
    timed(member, "norm apply again",
          [&] { apply(b.y1 + at, hidden, b.out(), b.norm1.scale[t], b.norm1.shift[t]); });
    timed(member, "conv weight gradient", [&] { b.conv2.run_weight(member, hidden, dy); });
    timed(member, "weight gradient sum", [&] { b.conv2.accumulate(member); });
    timed(member, "conv data gradient", [&] { b.conv2.run_data(member, dy, dx); });
    timed(member, "relu backward, norm sums", [&] {
      masked({.all = dx}, hidden, b.y2 + at, b.y1 + at, nullptr, b.out(), b.norm1.grad_sums[t]);
    });
  }
}

/// The first half, and the shortcut: to the gradient before the ReLU that made the block's input.
void backward_first(int member, const Range& rows, std::size_t k) {
  const std::size_t t = slot(member);
  Block& b = net.blocks[k];
  float *other = net.chunk1[t], *dy = net.chunk2[t], *dx = net.chunk3[t];
  for (Index i = rows.begin; i < rows.end; i += b.chunk) {
    const Index at = i * b.values(), in = i * b.input_values();
    float* x = b.input + in;
    timed(member, "norm backward", [&] {
      norm_backward(b.y2 + at, b.y1 + at, dy, b.out(), b.norm1.dy_scale[t], b.norm1.x_scale[t],
                    b.norm1.constant[t]);
    });
    timed(member, "conv weight gradient", [&] { b.conv1.run_weight(member, x, dy); });
    timed(member, "weight gradient sum", [&] { b.conv1.accumulate(member); });
    timed(member, "conv data gradient", [&] { b.conv1.run_data(member, dy, dx); });
    if (b.has_shortcut) {
      timed(member, "norm backward", [&] {
        norm_backward(b.output + at, b.y_shortcut + at, dy, b.out(), b.norm_shortcut.dy_scale[t],
                      b.norm_shortcut.x_scale[t], b.norm_shortcut.constant[t]);
      });
      timed(member, "1x1 weight gradient", [&] {
        b.shortcut.run_weight(member, x, dy);
        b.shortcut.accumulate(member);
      });
      timed(member, "1x1 data gradient", [&] { b.shortcut.run_data(member, dy, other); });
      timed(member, "residual sum", [&] { add(dx, other, b.chunk * b.input_values()); });
    } else {
      timed(member, "residual sum", [&] { add(dx, b.output + at, b.chunk * b.values()); });
    }
    timed(member, "relu backward, norm sums", [&] {
      if (k == 0)
        return masked({.all = dx}, x, x, net.stem + in, nullptr, b.in(),
                      net.stem_norm.grad_sums[t]);
      const Block& before = net.blocks[k - 1];
      masked({.all = dx}, x, x, before.y2 + in,
             before.has_shortcut ? before.y_shortcut + in : nullptr, b.in(),
             before.norm2.grad_sums[t]);
    });
  }
}

void backward_block(int member, const Range& rows, std::size_t k) {
  Block& b = net.blocks[k];
  finish_backward(b.norm2, b.norm2, 1, member);
  if (b.has_shortcut) finish_backward(b.norm_shortcut, b.norm2, 2, member);
  clear_grad_sums(b.norm1, member);
  const auto clear = [&](const Convolution& conv) {
    std::fill_n(gradients[slot(member)] + conv.offset, conv.count, 0.0F);
  };
  clear(b.conv1);
  clear(b.conv2);
  if (b.has_shortcut) clear(b.shortcut);
  backward_second(member, rows, b);
  timed_meet(member);
  finish_backward(b.norm1, b.norm1, 1, member);
  clear_grad_sums(k > 0 ? net.blocks[k - 1].norm2 : net.stem_norm, member);
  backward_first(member, rows, k);
  timed_meet(member);
}

void backward_stem(int member, const Range& rows, const float* images) {
  const std::size_t t = slot(member);
  const Norm& norm = net.stem_norm;
  finish_backward(net.stem_norm, net.stem_norm, 1, member);
  float* grad_weight = gradients[t] + net.stem_offset;
  std::fill_n(grad_weight, 144, 0.0F);
  timed(member, "stem weight gradient", [&] {
    for (Index i = rows.begin; i < rows.end; ++i) {
      pad_image(images + i * peers::kPixels, net.padded[t]);
      stem_backward(net.padded[t], net.stem_output + i * kStem, net.stem + i * kStem,
                    norm.dy_scale[t], norm.x_scale[t], norm.constant[t], grad_weight);
    }
  });
  timed_meet(member);
}

void update(int member) {
  const Range part = share(parameter_count, member, 16);
  float* sum = gradients[0] + part.begin;
  for (int other = 1; other < members; ++other)
    add(sum, gradients[slot(other)] + part.begin, part.count());
  sgd_momentum(parameters + part.begin, momentum + part.begin, sum, part.count(), kRate);
}

float step(int member, float* images, const std::int64_t* labels) {
  const Range rows = share(batch, member);
  forward_stem(member, rows, images);
  for (std::size_t k = 0; k < net.blocks.size(); ++k) forward_block(member, rows, k);
  float loss = 0.0F;
  timed(member, "head", [&] { loss = head(member, rows, labels); });
  timed_meet(member);
  for (std::size_t k = net.blocks.size(); k-- > 0;) backward_block(member, rows, k);
  backward_stem(member, rows, images);
  timed(member, "update", [&] { update(member); });
  return loss;
}

// --- setting up ----------------------------------------------------------------------------------

void make_blocks(Weights& weights) {
  Index before = 16, height = 28;
  float* input = net.stem_output;
  for (std::size_t k = 0; k < net.blocks.size(); ++k) {
    Block& b = net.blocks[k];
    const Index channels = Index{16} << (k / 2), stride = k > 0 && k % 2 == 0 ? 2 : 1;
    const Index inner = height / stride, places = inner * inner;
    b.chunk = std::min<Index>(kChunks[k / 2], batch / members);
    if (batch % (members * b.chunk) != 0)
      throw std::invalid_argument("steps: the batch must be whole chunks of 16 on each member");
    b.groups = static_cast<int>(channels / 16);
    b.input_groups = static_cast<int>(before / 16);
    b.places = places;
    b.input_places = height * height;
    b.has_shortcut = stride == 2;
    make(b.conv1, {before, channels, height, stride, 3, b.chunk}, weights);
    make(b.norm1, static_cast<int>(channels), places, weights);
    make(b.conv2, {channels, channels, inner, 1, 3, b.chunk}, weights);
    make(b.norm2, static_cast<int>(channels), places, weights);
    if (b.has_shortcut) {
      make(b.shortcut, {before, channels, height, stride, 1, b.chunk}, weights);
      make(b.norm_shortcut, static_cast<int>(channels), places, weights);
      b.y_shortcut = block.work(batch * b.values());
    }
    b.input = input;
    for (float** values : {&b.y1, &b.y2, &b.output}) *values = block.work(batch * b.values());
    input = b.output;
    before = channels;
    height = inner;
  }
}

void make_head(Weights& weights) {
  net.head_offset = new_parameters(650);
  float* weight = parameters + net.head_offset;
  const float* given = weights.next(640);
  for (Index o = 0; o < 10; ++o)
    for (Index i = 0; i < 64; ++i) weight[i * 10 + o] = given[o * 64 + i];
  std::memcpy(weight + 640, weights.next(10), 10 * sizeof(float));
  net.features = block.work(batch * 64);
  net.grad_features = block.work(batch * 64);
  net.logits = block.work(batch * 10);
  net.grad_logits = block.work(batch * 10);
  for (int member = 0; member < members; ++member) {
    const Range rows = share(batch, member);
    const Index row = rows.begin, n = rows.count();
    const Matrix features{net.features + row * 64, 64}, logits{net.logits + row * 10, 10},
        grad_logits{net.grad_logits + row * 10, 10};
    const std::size_t t = slot(member);
    net.head[t] =
        product(member, {n, 10, 64}, features, {weight, 10}, logits, {.bias = weight + 640});
    net.head_data[t] = product(member, {n, 64, 10}, grad_logits, {weight, 10, true},
                               {net.grad_features + row * 64, 64});
    net.head_weight[t] = product(member, {64, 10, n}, {features.data, 64, true}, grad_logits,
                                 {gradients[t] + net.head_offset, 10});
  }
}

Share build(const std::string& network, Weights weights) {
  if (network != "resnet_small")
    throw std::invalid_argument("steps: this program trains resnet_small");
  parameters = block.state(kMostParameters);
  momentum = block.state(kMostParameters);
  const Index most = kChunks[0] * kStem;  // the largest chunk of any stage
  for (int member = 0; member < members; ++member) {
    const std::size_t t = slot(member);
    gradients[t] = block.work(kMostParameters);
    net.padded[t] = block.work(30 * 32);
    for (auto* chunks : {&net.chunk1, &net.chunk2, &net.chunk3})
      (*chunks)[t] = block.work(2 * most);
  }
  net.stem_offset = new_parameters(144);
  const float* stem = weights.next(144);
  for (Index o = 0; o < 16; ++o)
    for (Index k = 0; k < 9; ++k) parameters[net.stem_offset + k * 16 + o] = stem[o * 9 + k];
  make(net.stem_norm, 16, 784, weights);
  net.stem = block.work(batch * kStem);
  net.stem_output = block.work(batch * kStem);
  make_blocks(weights);
  make_head(weights);
  if (!weights.empty()) throw std::runtime_error("steps: networks.py has another resnet_small");
  parameter_count = (parameter_count + 15) / 16 * 16;
  return step;
}

}  // namespace

int main(int argc, char** argv) {
  return peers::guarded(argc, argv, [](const peers::Arguments& given) { run(given, build); });
}
