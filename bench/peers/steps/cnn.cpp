// cnn (SGD with momentum), by hand. A member works through its part of the batch a few images at a
// time, so that what lies between two operations stays in its cache. The convolution of one channel
// with ReLU and pooling, and its gradient, are loops of our own; values before pooling are never
// stored. With AVX-512 images are blocked by 16 channels, with AVX2 they are channels-last.
#include "bench/peers/steps/lanes.h"
#include "bench/peers/steps/step.h"

using namespace steps;

namespace {

constexpr float kRate = 0.05F;
constexpr Index kChunk = 8;         // images at a time
constexpr Index kLinearRows = 392;  // of a block of the linear weight
constexpr Index kImage1 = 32 * 14 * 14, kImage2 = 64 * 14 * 14, kImage3 = 64 * 7 * 7;
constexpr Index kFeatures = kImage3, kHidden = 128;
constexpr Format kFormat = kAvx512 ? Format::nChw16c : Format::nhwc;

/// Where the 16 channels of group `group` begin at position `place`, in an image with
/// `channels` channels and `places` positions; and from one position to the next.
template <Index channels, Index places>
POOLGRAD_INLINE Index at(Index group, Index place) {
  return kAvx512 ? group * places * 16 + place * 16 : place * channels + group * 16;
}
constexpr Index kStep2 = kAvx512 ? 16 : 64;

/// Winners of group `group` at pooled position `place`, four masks each.
POOLGRAD_INLINE Index winners_at(Index group, Index place, Index places) {
  return (group * places + place) * 4;
}

// --- convolution of one channel, ReLU, pool ------------------------------------------------------

constexpr int kGroups = kAvx512 ? 2 : 1;  // of 16 channels at once: as many as registers allow

/// One padded image; weight [9, 32]; y and winners of groups [group, group + kGroups).
void conv1_forward(const float* padded, const float* weight, const float* bias, float* y,
                   std::uint16_t* winners, int group) {
  Lanes w[9][kGroups], b[kGroups];
  for (int k = 0; k < 9; ++k)
    for (int g = 0; g < kGroups; ++g) w[k][g] = load(weight + k * 32 + 16 * (group + g));
  for (int g = 0; g < kGroups; ++g) b[g] = load(bias + 16 * (group + g));
  for (int i = 0; i < 14; ++i) {
    for (int j = 0; j < 14; ++j) {
      const float* x = padded + 64 * i + 2 * j;
      Lanes sum[4][kGroups];
      for (auto& corner : sum)
        for (int g = 0; g < kGroups; ++g) corner[g] = b[g];
#pragma GCC unroll 9
      for (int k = 0; k < 9; ++k) {
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) {
          const Lanes value = same(x[(k / 3 + q / 2) * 32 + k % 3 + q % 2]);
          for (int g = 0; g < kGroups; ++g) sum[q][g] = fma(value, w[k][g], sum[q][g]);
        }
      }
      for (int g = 0; g < kGroups; ++g)
        store(y + at<32, 196>(group + g, i * 14 + j),
              pool(sum[0][g], sum[1][g], sum[2][g], sum[3][g],
                   winners + winners_at(group + g, i * 14 + j, 196)));
    }
  }
}

/// Adds to grad_weight [9, 32] and grad_bias [32] what one image gives.
void conv1_backward(const float* padded, const float* grad_y, const std::uint16_t* winners,
                    float* grad_weight, float* grad_bias, int group) {
  Lanes w[9][kGroups], b[kGroups];
  for (int k = 0; k < 9; ++k)
    for (int g = 0; g < kGroups; ++g) w[k][g] = load(grad_weight + k * 32 + 16 * (group + g));
  for (int g = 0; g < kGroups; ++g) b[g] = load(grad_bias + 16 * (group + g));
  for (int i = 0; i < 14; ++i) {
    for (int j = 0; j < 14; ++j) {
      const float* x = padded + 64 * i + 2 * j;
      Lanes d[4][kGroups];
      for (int g = 0; g < kGroups; ++g) {
        const std::uint16_t* won = winners + winners_at(group + g, i * 14 + j, 196);
        const Lanes dy = load(grad_y + at<32, 196>(group + g, i * 14 + j));
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) d[q][g] = keep(mask(won[q]), dy);
        b[g] = b[g] + ((d[0][g] + d[1][g]) + (d[2][g] + d[3][g]));
      }
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) {
#pragma GCC unroll 9
        for (int k = 0; k < 9; ++k) {
          const Lanes value = same(x[(k / 3 + q / 2) * 32 + k % 3 + q % 2]);
          for (int g = 0; g < kGroups; ++g) w[k][g] = fma(value, d[q][g], w[k][g]);
        }
      }
    }
  }
  for (int k = 0; k < 9; ++k)
    for (int g = 0; g < kGroups; ++g) store(grad_weight + k * 32 + 16 * (group + g), w[k][g]);
  for (int g = 0; g < kGroups; ++g) store(grad_bias + 16 * (group + g), b[g]);
}

// --- the second pool, [64, 14, 14] -> [64, 7, 7] -------------------------------------------------

void pool2_forward(const float* x, float* y, std::uint16_t* winners, Index images) {
  for (Index m = 0; m < images; ++m, x += kImage2, y += kImage3, winners += 4 * 196) {
    for (int c = 0; c < 4; ++c) {
      for (int i = 0; i < 7; ++i) {
        for (int j = 0; j < 7; ++j) {
          const float* p = x + at<64, 196>(c, 28 * i + 2 * j);
          store(y + at<64, 49>(c, i * 7 + j),
                pool(load(p), load(p + kStep2), load(p + 14 * kStep2), load(p + 15 * kStep2),
                     winners + winners_at(c, i * 7 + j, 49)));
        }
      }
    }
  }
}

/// Also adds up the gradient of the bias before the pool.
void pool2_backward(float* grad_x, const float* grad_y, const std::uint16_t* winners,
                    float* grad_bias, Index images) {
  for (Index m = 0; m < images; ++m, grad_x += kImage2, grad_y += kImage3, winners += 4 * 196) {
    for (int c = 0; c < 4; ++c) {
      Lanes sum = load(grad_bias + 16 * c);
      for (int i = 0; i < 7; ++i) {
        for (int j = 0; j < 7; ++j) {
          const std::uint16_t* won = winners + winners_at(c, i * 7 + j, 49);
          const Lanes dy = load(grad_y + at<64, 49>(c, i * 7 + j));
          const Lanes a = keep(mask(won[0]), dy), b = keep(mask(won[1]), dy),
                      d = keep(mask(won[2]), dy), e = keep(mask(won[3]), dy);
          float* p = grad_x + at<64, 196>(c, 28 * i + 2 * j);
          store(p, a);
          store(p + kStep2, b);
          store(p + 14 * kStep2, d);
          store(p + 15 * kStep2, e);
          sum = sum + ((a + b) + (d + e));
        }
      }
      store(grad_bias + 16 * c, sum);
    }
  }
}

// --- the step ------------------------------------------------------------------------------------

/// Parameters of the convolutions lie end to end, and so do their momentum and gradients.
constexpr Index kWeight1 = 288, kBias1 = 32, kWeight2 = 64 * 32 * 9, kBias2 = 64;
constexpr Index kConvBias1 = kWeight1, kConvWeight2 = kConvBias1 + kBias1,
                kConvBias2 = kConvWeight2 + kWeight2, kConv = kConvBias2 + kBias2;
/// So do the bias of the first linear layer and all of the second.
constexpr Index kSmallWeight = kHidden, kSmallBias = kSmallWeight + kHidden * 10,
                kSmall = kSmallBias + 64;

struct Network {
  float *conv, *conv_momentum, *linear, *linear_momentum, *small, *small_momentum;
  float* conv2_backward;  // the second convolution's weight as its data gradient wants it
  float *pooled1, *pooled2, *grad_pooled2, *hidden, *grad_hidden, *logits, *grad_logits;
  std::uint16_t *winners1, *winners2;
};

struct Member {
  Range rows;
  float *padded = nullptr, *conv2 = nullptr, *grad_pooled1 = nullptr;
  float *gradient = nullptr, *grad_conv2 = nullptr, *grad_bias = nullptr;
  Op conv2_forward{}, conv2_data{}, conv2_weight{}, conv2_reorder{};
  Op linear_forward{}, linear_data{}, logits_forward{}, logits_data{}, logits_weight{};
  std::vector<RowBlock> linear_weight{};
};

/// `given` [64, 32, 3, 3] goes into the network in the order that the primitive wants.
void make_convolutions(int member, Index images, const Network& net, Member& m, float* given) {
  using namespace dnnl;
  const primitive_attr attributes = user_scratch();
  const memory::desc x({images, 32, 14, 14}, kF32, kFormat), y({images, 64, 14, 14}, kF32, kFormat),
      any({64, 32, 3, 3}, kF32, Format::any), bias({64}, kF32, Format::a);
  const memory::dims one{1, 1};
  const auto direct = algorithm::convolution_direct;
  const convolution_forward::primitive_desc forward(
      {prop_kind::forward_training, direct, x, any, bias, y, one, one, one}, attributes, cpu());
  const convolution_backward_data::primitive_desc data({direct, x, any, y, one, one, one},
                                                       attributes, cpu(), forward);
  const convolution_backward_weights::primitive_desc weight(
      {direct, x, forward.weights_desc(), y, one, one, one}, attributes, cpu(), forward);
  float* kept = net.conv + kConvWeight2;
  if (member == 0) {
    memory from({{64, 32, 3, 3}, kF32, Format::oihw}, cpu(), given);
    memory to(forward.weights_desc(), cpu(), kept);
    reorder(from, to).execute(cpu_stream(), from, to);
    cpu_stream().wait();
  }
  const memory w(forward.weights_desc(), cpu(), kept);
  const memory w_data(data.weights_desc(), cpu(), net.conv2_backward);
  m.conv2_forward = {convolution_forward(forward),
                     {{DNNL_ARG_SRC, {x, cpu(), net.pooled1}},
                      {DNNL_ARG_WEIGHTS, w},
                      {DNNL_ARG_BIAS, {bias, cpu(), net.conv + kConvBias2}},
                      {DNNL_ARG_DST, {y, cpu(), m.conv2}},
                      {DNNL_ARG_SCRATCHPAD, scratch(forward.scratchpad_desc(), member)}}};
  m.conv2_data = {convolution_backward_data(data),
                  {{DNNL_ARG_DIFF_DST, {y, cpu(), m.conv2}},
                   {DNNL_ARG_WEIGHTS, w_data},
                   {DNNL_ARG_DIFF_SRC, {x, cpu(), m.grad_pooled1}},
                   {DNNL_ARG_SCRATCHPAD, scratch(data.scratchpad_desc(), member)}}};
  m.conv2_weight = {convolution_backward_weights(weight),
                    {{DNNL_ARG_SRC, {x, cpu(), net.pooled1}},
                     {DNNL_ARG_DIFF_DST, {y, cpu(), m.conv2}},
                     {DNNL_ARG_DIFF_WEIGHTS, {weight.diff_weights_desc(), cpu(), m.grad_conv2}},
                     {DNNL_ARG_SCRATCHPAD, scratch(weight.scratchpad_desc(), member)}}};
  m.conv2_reorder = {reorder(reorder::primitive_desc(w, w_data, attributes)),
                     {{DNNL_ARG_FROM, w}, {DNNL_ARG_TO, w_data}}};
}

void make_products(int member, const Network& net, Member& m) {
  const Index row = m.rows.begin, n = m.rows.count();
  float *pooled = net.pooled2 + row * kFeatures, *hidden = net.hidden + row * kHidden,
        *grad_hidden = net.grad_hidden + row * kHidden, *grad_logits = net.grad_logits + row * 10;
  const Matrix weight{net.linear, kHidden}, last{net.small + kSmallWeight, 10};
  const Matrix weight_t{net.linear, kHidden, true}, last_t{net.small + kSmallWeight, 10, true};
  m.linear_forward = product(member, {n, kHidden, kFeatures}, {pooled, kFeatures}, weight,
                             {hidden, kHidden}, {.bias = net.small, .relu = true});
  m.logits_forward = product(member, {n, 10, kHidden}, {hidden, kHidden}, last,
                             {net.logits + row * 10, 10}, {.bias = net.small + kSmallBias});
  m.logits_data =
      product(member, {n, kHidden, 10}, {grad_logits, 10}, last_t, {grad_hidden, kHidden});
  m.linear_data = product(member, {n, kFeatures, kHidden}, {grad_hidden, kHidden}, weight_t,
                          {net.grad_pooled2 + row * kFeatures, kFeatures});
  const Epilogue into_momentum{.keep = 0.9F};
  const Range part = share(kFeatures, member, kLinearRows);
  for (Index k = part.begin; k < part.end; k += kLinearRows)
    m.linear_weight.push_back(
        {k, product(member, {kLinearRows, kHidden, batch}, {net.pooled2 + k, kFeatures, true},
                    {net.grad_hidden, kHidden}, {net.linear_momentum + k * kHidden, kHidden},
                    into_momentum)});
  m.logits_weight =
      product(member, {kHidden, 10, batch}, {net.hidden, kHidden, true}, {net.grad_logits, 10},
              {net.small_momentum + kSmallWeight, 10}, into_momentum);
}

Network make_network(Weights& weights, float*& conv2_given) {
  Network net{.conv = block.state(kConv),
              .conv_momentum = block.state(kConv),
              .linear = block.state(kFeatures * kHidden),
              .linear_momentum = block.state(kFeatures * kHidden),
              .small = block.state(kSmall),
              .small_momentum = block.state(kSmall),
              .conv2_backward = block.work(kWeight2),
              .pooled1 = block.work(batch * kImage1),
              .pooled2 = block.work(batch * kImage3),
              .grad_pooled2 = block.work(batch * kImage3),
              .hidden = block.work(batch * kHidden),
              .grad_hidden = block.work(batch * kHidden),
              .logits = block.work(batch * 10),
              .grad_logits = block.work(batch * 10),
              .winners1 = block.work<std::uint16_t>(batch * 2 * 196 * 4),
              .winners2 = block.work<std::uint16_t>(batch * 4 * 49 * 4)};
  const float* w = weights.next(kWeight1);
  for (int o = 0; o < 32; ++o)
    for (int k = 0; k < 9; ++k) net.conv[k * 32 + o] = w[o * 9 + k];
  const auto copy = [&](float* to, Index count) {
    std::memcpy(to, weights.next(count), static_cast<std::size_t>(count) * sizeof(float));
  };
  copy(net.conv + kConvBias1, kBias1);
  conv2_given = weights.next(kWeight2);
  copy(net.conv + kConvBias2, kBias2);
  w = weights.next(kHidden * kFeatures);
  for (Index o = 0; o < kHidden; ++o)
    for (Index c = 0; c < 64; ++c)
      for (Index place = 0; place < 49; ++place)
        net.linear[(at<64, 49>(c / 16, place) + c % 16) * kHidden + o] =
            w[o * kFeatures + c * 49 + place];
  copy(net.small, kHidden);
  w = weights.next(10 * kHidden);
  for (Index o = 0; o < 10; ++o)
    for (Index i = 0; i < kHidden; ++i) net.small[kSmallWeight + i * 10 + o] = w[o * kHidden + i];
  copy(net.small + kSmallBias, 10);
  return net;
}

void forward_chunk(int member, Index first, Index images, const Network& net, Member& m,
                   const float* x) {
  timed(member, "conv1, relu, pool", [&] {
    for (Index i = first; i < first + images; ++i) {
      pad_image(x + i * peers::kPixels, m.padded);
      for (int group = 0; group < 2; group += kGroups)
        conv1_forward(m.padded, net.conv, net.conv + kConvBias1, net.pooled1 + i * kImage1,
                      net.winners1 + i * 2 * 196 * 4, group);
    }
  });
  timed(member, "conv2", [&] { m.conv2_forward.source(net.pooled1 + first * kImage1)(); });
  timed(member, "relu, pool2", [&] {
    pool2_forward(m.conv2, net.pooled2 + first * kImage3, net.winners2 + first * 4 * 196, images);
  });
}

void backward_chunk(int member, Index first, Index images, const Network& net, Member& m,
                    const float* x) {
  timed(member, "pool2 backward", [&] {
    pool2_backward(m.conv2, net.grad_pooled2 + first * kImage3, net.winners2 + first * 4 * 196,
                   m.gradient + kConvBias2, images);
  });
  timed(member, "conv2 weight gradient", [&] {
    m.conv2_weight.source(net.pooled1 + first * kImage1)();
    add(m.gradient + kConvWeight2, m.grad_conv2, kWeight2);
  });
  timed(member, "conv2 data gradient", [&] { m.conv2_data(); });
  timed(member, "conv1 weight gradient", [&] {
    for (Index i = 0; i < images; ++i) {
      pad_image(x + (first + i) * peers::kPixels, m.padded);
      for (int group = 0; group < 2; group += kGroups)
        conv1_backward(m.padded, m.grad_pooled1 + i * kImage1,
                       net.winners1 + (first + i) * 2 * 196 * 4, m.gradient,
                       m.gradient + kConvBias1, group);
    }
  });
}

void update_small(const Network& net, Member& m) {
  m.logits_weight();
  subtract(net.small + kSmallWeight, net.small_momentum + kSmallWeight, kHidden * 10, kRate);
  column_sums(net.grad_logits, m.grad_bias, batch, 10, 10);
  sgd_momentum(net.small + kSmallBias, net.small_momentum + kSmallBias, m.grad_bias, 10, kRate);
  column_sums(net.grad_hidden, m.grad_bias, batch, kHidden, kHidden);
  sgd_momentum(net.small, net.small_momentum, m.grad_bias, kHidden, kRate);
}

float step(int member, Index chunk, const Network& net, std::vector<Member>& all, float* x,
           const std::int64_t* labels) {
  Member& m = all[static_cast<std::size_t>(member)];
  const Index row = m.rows.begin, n = m.rows.count();
  for (Index i = row; i < m.rows.end; i += chunk) forward_chunk(member, i, chunk, net, m, x);
  timed(member, "linear", [&] { m.linear_forward(); });
  timed(member, "logits", [&] { m.logits_forward(); });
  float loss = 0.0F;
  timed(member, "cross entropy", [&] {
    loss = cross_entropy(net.logits + row * 10, labels + row, net.grad_logits + row * 10, n);
  });
  timed(member, "logits data gradient", [&] {
    m.logits_data();
    relu_backward(net.grad_hidden + row * kHidden, net.hidden + row * kHidden, n * kHidden);
  });
  timed(member, "linear data gradient", [&] { m.linear_data(); });
  if (member == 0) timed(member, "conv2 weight reorder", [&] { m.conv2_reorder(); });
  timed_meet(member);
  for (RowBlock& rows : m.linear_weight) {
    const Index k = rows.row * kHidden;
    timed(member, "linear weight into momentum", [&] { rows.gradient(); });
    timed(member, "linear update",
          [&] { subtract(net.linear + k, net.linear_momentum + k, kLinearRows * kHidden, kRate); });
  }
  if (member == members - 1) timed(member, "logits update", [&] { update_small(net, m); });
  std::memset(m.gradient, 0, kConv * sizeof(float));
  for (Index i = row; i < m.rows.end; i += chunk) backward_chunk(member, i, chunk, net, m, x);
  timed_meet(member);
  timed(member, "conv update", [&] {
    const Range part = share(kConv, member, 16);
    for (std::size_t other = 1; other < all.size(); ++other)
      add(all[0].gradient + part.begin, all[other].gradient + part.begin, part.count());
    sgd_momentum(net.conv + part.begin, net.conv_momentum + part.begin,
                 all[0].gradient + part.begin, part.count(), kRate);
  });
  return loss;
}

Share build(const std::string& network, Weights weights) {
  if (network != "cnn") throw std::invalid_argument("steps: this program trains cnn");
  const Index chunk = std::min<Index>(kChunk, batch / members);
  if (batch % (members * chunk) != 0)
    throw std::invalid_argument("steps: the batch must be whole chunks of 8 on each member");
  float* conv2_given = nullptr;
  const Network net = make_network(weights, conv2_given);
  std::vector<Member> all;
  for (int member = 0; member < members; ++member) {
    Member m{.rows = share(batch, member),
             .padded = block.work(30 * 32),
             .conv2 = block.work(chunk * kImage2),
             .grad_pooled1 = block.work(chunk * kImage1),
             .gradient = block.work(kConv),
             .grad_conv2 = block.work(kWeight2),
             .grad_bias = block.work(256)};
    make_convolutions(member, chunk, net, m, conv2_given);
    make_products(member, net, m);
    all.push_back(std::move(m));
  }
  return [chunk, net, all](int member, float* x, const std::int64_t* labels) mutable {
    return step(member, chunk, net, all, x, labels);
  };
}

}  // namespace

int main(int argc, char** argv) {
  return peers::guarded(argc, argv, [](const peers::Arguments& given) { run(given, build); });
}
