// mlp_small (SGD inside the gradient products) and mlp_big (Adam on each block of rows while its
// gradient is hot), by hand. Weights are [inputs, outputs].
#include "bench/peers/steps/step.h"

using namespace steps;

namespace {

constexpr Index kPixels = peers::kPixels;

// --- mlp_small: 784-128-10 -----------------------------------------------------------------------

/// What a member has: its columns of the first weight, its rows of the second. Both stay in its
/// core's own cache; the members meet once a step, for the logits.
struct SmallMember {
  Index width = 0;  // columns of the first weight
  float *weight1 = nullptr, *bias1 = nullptr, *weight2 = nullptr, *bias2 = nullptr;
  float *hidden = nullptr, *grad_hidden = nullptr, *partial = nullptr, *logits = nullptr,
        *grad_logits = nullptr, *grad_bias = nullptr;
  Op forward1{}, forward2{}, backward2{}, update1{}, update2{};
};

SmallMember small_member(int member, float* weight1, float* bias1, float* weight2, float* bias2) {
  constexpr Index kHidden = 128;
  constexpr float kRate = 0.1F;
  const Range mine = share(kHidden, member, 16);
  const Index n = mine.count();
  SmallMember m{.width = n,
                .weight1 = block.state(kPixels * n),
                .bias1 = bias1 + mine.begin,
                .weight2 = weight2 + mine.begin * 10,
                .bias2 = copied(bias2, 10),
                .hidden = block.work(batch * n),
                .grad_hidden = block.work(batch * n),
                .partial = block.work(batch * 10),
                .logits = block.work(batch * 10),
                .grad_logits = block.work(batch * 10),
                .grad_bias = block.work(kHidden)};
  for (Index i = 0; i < kPixels; ++i)
    std::memcpy(m.weight1 + i * n, weight1 + i * kHidden + mine.begin,
                static_cast<std::size_t>(n) * sizeof(float));
  const Epilogue update{.scale = -kRate, .keep = 1.0F};
  m.forward1 = product(member, {batch, n, kPixels}, {nullptr, kPixels}, {m.weight1, n},
                       {m.hidden, n}, {.bias = m.bias1, .relu = true});
  m.forward2 = product(member, {batch, 10, n}, {m.hidden, n}, {m.weight2, 10}, {m.partial, 10});
  m.backward2 = product(member, {batch, n, 10}, {m.grad_logits, 10}, {m.weight2, 10, true},
                        {m.grad_hidden, n});
  m.update1 = product(member, {kPixels, n, batch}, {nullptr, kPixels, true}, {m.grad_hidden, n},
                      {m.weight1, n}, update);
  m.update2 = product(member, {n, 10, batch}, {m.hidden, n, true}, {m.grad_logits, 10},
                      {m.weight2, 10}, update);
  return m;
}

Share small(Weights weights) {
  constexpr Index kHidden = 128;
  constexpr float kRate = 0.1F;
  std::vector<float> weight1(kPixels * kHidden);
  const float* given = weights.next(kPixels * kHidden);
  for (Index o = 0; o < kHidden; ++o)
    for (Index i = 0; i < kPixels; ++i) weight1[i * kHidden + o] = given[o * kPixels + i];
  float* bias1 = copied(weights.next(kHidden), kHidden);
  float* weight2 = transposed(weights.next(10 * kHidden), 10, kHidden);
  float* bias2 = weights.next(10);
  std::vector<SmallMember> all;
  for (int member = 0; member < members; ++member)
    all.push_back(small_member(member, weight1.data(), bias1, weight2, bias2));

  return [all](int member, float* images, const std::int64_t* labels) mutable {
    SmallMember& m = all[static_cast<std::size_t>(member)];
    timed(member, "forward 1", [&] { m.forward1.source(images)(); });
    timed(member, "forward 2", [&] { m.forward2(); });
    timed_meet(member);
    float loss = 0.0F;
    timed(member, "cross entropy", [&] {  // all of it on each member: cheaper than to meet again
      for (Index i = 0; i < batch * 10; i += 10) {
        for (int j = 0; j < 10; ++j) {
          float sum = m.bias2[j];
          for (const SmallMember& other : all) sum += other.partial[i + j];
          m.logits[i + j] = sum;
        }
      }
      loss = cross_entropy(m.logits, labels, m.grad_logits, batch);
    });
    timed(member, "backward 2", [&] { m.backward2(); });
    timed(member, "relu backward, bias 1", [&] {
      relu_backward(m.grad_hidden, m.hidden, batch * m.width);
      column_sums(m.grad_hidden, m.grad_bias, batch, m.width, m.width);
      subtract(m.bias1, m.grad_bias, m.width, kRate);
    });
    timed(member, "update 1", [&] { m.update1.source(images)(); });
    timed(member, "update 2", [&] {
      m.update2();
      column_sums(m.grad_logits, m.grad_bias, batch, 10, 10);
      subtract(m.bias2, m.grad_bias, 10, kRate);
    });
    return member == 0 ? loss : 0.0F;
  };
}

// --- mlp_big: 784-1024-1024-10 -------------------------------------------------------------------

constexpr Index kWide = 1024;
constexpr Index kRows1 = 392, kRows2 = 512;  // of a block of the first and the second weight

struct AdamSlot {
  float *weight = nullptr, *first = nullptr, *second = nullptr;
};

AdamSlot adam_slot(float* weight, Index count) {
  return {weight, block.state(count), block.state(count)};
}

void adam_loop(float* __restrict weight, float* __restrict first, float* __restrict second,
               const float* __restrict gradient, Index count, float rate, float second_scale) {
  for (Index i = 0; i < count; ++i) {
    const float g = gradient[i];
    first[i] = 0.9F * first[i] + 0.1F * g;
    second[i] = 0.999F * second[i] + 0.001F * g * g;
    weight[i] -= rate * first[i] / (__builtin_sqrtf(second[i]) * second_scale + 1e-8F);
  }
}

/// Of one step: the rate and the scale that undo the moments' bias.
struct Adam {
  float rate, second_scale;
  explicit Adam(Index step)
      : rate(static_cast<float>(1e-3 / (1.0 - std::pow(0.9, step)))),
        second_scale(static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(0.999, step)))) {}
  void operator()(const AdamSlot& slot, Index offset, const float* gradient, Index count) const {
    adam_loop(slot.weight + offset, slot.first + offset, slot.second + offset, gradient, count,
              rate, second_scale);
  }
};

struct BigMember {
  Range columns, rows;
  float *gradient = nullptr, *grad_bias = nullptr;
  Index steps = 0;
  Op forward1{}, forward2{}, forward3{}, backward3{}, backward2{}, gradient3{};
  std::vector<RowBlock> gradients1{}, gradients2{};
};

struct Big {
  AdamSlot weight1, bias1, weight2, bias2, weight3, bias3;
  float *hidden1, *hidden2, *logits, *grad_logits, *grad_hidden1, *grad_hidden2;
};

BigMember big_member(int member, const Big& b) {
  BigMember m{.columns = share(kWide, member, 16),
              .rows = share(batch, member),
              .gradient = block.work(std::max(kRows1, kRows2) * kWide),
              .grad_bias = block.work(kWide)};
  const Index column = m.columns.begin, n = m.columns.count(), row = m.rows.begin;
  m.forward1 =
      product(member, {batch, n, kPixels}, {nullptr, kPixels}, {b.weight1.weight + column, kWide},
              {b.hidden1 + column, kWide}, {.bias = b.bias1.weight + column, .relu = true});
  m.forward2 =
      product(member, {batch, n, kWide}, {b.hidden1, kWide}, {b.weight2.weight + column, kWide},
              {b.hidden2 + column, kWide}, {.bias = b.bias2.weight + column, .relu = true});
  m.forward3 = product(member, {m.rows.count(), 10, kWide}, {b.hidden2 + row * kWide, kWide},
                       {b.weight3.weight, 10}, {b.logits + row * 10, 10}, {.bias = b.bias3.weight});
  m.backward3 =
      product(member, {batch, n, 10}, {b.grad_logits, 10},
              {b.weight3.weight + column * 10, 10, true}, {b.grad_hidden2 + column, kWide});
  m.backward2 =
      product(member, {batch, n, kWide}, {b.grad_hidden2, kWide},
              {b.weight2.weight + column * kWide, kWide, true}, {b.grad_hidden1 + column, kWide});
  const Range part1 = share(kPixels, member, kRows1), part2 = share(kWide, member, kRows2);
  for (Index k = part1.begin; k < part1.end; k += kRows1)
    m.gradients1.push_back({k, product(member, {kRows1, kWide, batch}, {nullptr, kPixels, true},
                                       {b.grad_hidden1, kWide}, {m.gradient, kWide})});
  for (Index k = part2.begin; k < part2.end; k += kRows2)
    m.gradients2.push_back({k, product(member, {kRows2, kWide, batch}, {b.hidden1 + k, kWide, true},
                                       {b.grad_hidden2, kWide}, {m.gradient, kWide})});
  m.gradient3 = product(member, {kWide, 10, batch}, {b.hidden2, kWide, true}, {b.grad_logits, 10},
                        {m.gradient, 10});
  return m;
}

float big_step(const Big& b, BigMember& m, int member, float* images, const std::int64_t* labels) {
  const Adam adam(++m.steps);
  const Index column = m.columns.begin, row = m.rows.begin;
  const auto relu_back = [&](float* gradient, const float* hidden) {
    for (Index i = 0; i < batch; ++i)
      relu_backward(gradient + i * kWide + column, hidden + i * kWide + column, m.columns.count());
  };
  timed(member, "forward 1", [&] { m.forward1.source(images)(); });
  timed_meet(member);
  timed(member, "forward 2", [&] { m.forward2(); });
  timed_meet(member);
  float loss = 0.0F;
  timed(member, "forward 3, cross entropy", [&] {
    m.forward3();
    loss =
        cross_entropy(b.logits + row * 10, labels + row, b.grad_logits + row * 10, m.rows.count());
  });
  timed_meet(member);
  timed(member, "backward 3", [&] { m.backward3(); });
  timed(member, "relu backward", [&] { relu_back(b.grad_hidden2, b.hidden2); });
  timed_meet(member);
  timed(member, "backward 2", [&] { m.backward2(); });
  timed(member, "relu backward", [&] { relu_back(b.grad_hidden1, b.hidden1); });
  timed_meet(member);
  for (RowBlock& rows : m.gradients2) {
    timed(member, "gradient 2", [&] { rows.gradient(); });
    timed(member, "adam", [&] { adam(b.weight2, rows.row * kWide, m.gradient, kRows2 * kWide); });
  }
  for (RowBlock& rows : m.gradients1) {
    timed(member, "gradient 1", [&] { rows.gradient.source(images + rows.row)(); });
    timed(member, "adam", [&] { adam(b.weight1, rows.row * kWide, m.gradient, kRows1 * kWide); });
  }
  timed(member, "biases and layer 3", [&] {
    const auto bias = [&](const AdamSlot& slot, const float* gradient, Index count) {
      column_sums(gradient, m.grad_bias, batch, count, count);
      adam(slot, 0, m.grad_bias, count);
    };
    if (member == members - 1) {
      m.gradient3();
      adam(b.weight3, 0, m.gradient, kWide * 10);
      bias(b.bias3, b.grad_logits, 10);
    }
    if (member == 0) {
      bias(b.bias1, b.grad_hidden1, kWide);
      bias(b.bias2, b.grad_hidden2, kWide);
    }
  });
  return loss;
}

Share big(Weights weights) {
  Big b{};
  const auto weight = [&](Index outputs, Index inputs) {
    const Index count = outputs * inputs;
    return adam_slot(transposed(weights.next(count), outputs, inputs), count);
  };
  const auto bias = [&](Index count) {
    return adam_slot(copied(weights.next(count), count), count);
  };
  b.weight1 = weight(kWide, kPixels);
  b.bias1 = bias(kWide);
  b.weight2 = weight(kWide, kWide);
  b.bias2 = bias(kWide);
  b.weight3 = weight(10, kWide);
  b.bias3 = bias(10);
  for (float** wide : {&b.hidden1, &b.hidden2, &b.grad_hidden1, &b.grad_hidden2})
    *wide = block.work(batch * kWide);
  for (float** narrow : {&b.logits, &b.grad_logits}) *narrow = block.work(batch * 10);

  std::vector<BigMember> all;
  for (int member = 0; member < members; ++member) all.push_back(big_member(member, b));
  return [b, all](int member, float* images, const std::int64_t* labels) mutable {
    return big_step(b, all[static_cast<std::size_t>(member)], member, images, labels);
  };
}

Share build(const std::string& network, Weights weights) {
  if (network == "mlp_small") return small(weights);
  if (network == "mlp_big") return big(weights);
  throw std::invalid_argument("steps: this program trains mlp_small and mlp_big");
}

}  // namespace

int main(int argc, char** argv) {
  return peers::guarded(argc, argv, [](const peers::Arguments& given) { run(given, build); });
}
