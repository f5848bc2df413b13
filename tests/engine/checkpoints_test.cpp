// What to keep of a chain, against every set of values that could be made again for every backward
// step, done one by one.
#include "engine/passes/checkpoints.h"

#include <algorithm>
#include <random>

#include <doctest/doctest.h>

namespace poolgrad::passes {
namespace {

using Again = std::vector<std::vector<int>>;

struct Taken {
  double us = 0.0;
  std::int64_t bytes = 0;
};

/// Runs both passes. Values lie there from when they are made to their last reader before they are
/// made once more.
class Run {
 public:
  Run(const std::vector<Link>& links, const Again& again) : links_(links) {
    const int last = static_cast<int>(links.size());
    now_.resize(links.size(), -1);
    for (int value = 1; value < last; ++value) make(value, 0);
    for (int value = 1; value < last; ++value)
      if (!again[at(value)].empty()) now_[at(value)] = -1;
    for (int step = last; step > 0; --step) {
      for (int value = 1; value < last; ++value)
        if (std::ranges::count(again[at(value)], step) > 0) now_[at(value)] = -1;
      want(step - 1, step);
      read(step - 1);
      beside_.push_back(links[at(step)].backward);
    }
    taken_.us -= forward_us_;
    for (std::size_t t = 0; t < beside_.size(); ++t) {
      std::int64_t bytes = beside_[t];
      for (const Life& life : lives_) {
        // what a backward step reads is beside what it is said to take
        if (life.first <= t && t <= life.last) bytes += life.bytes;
      }
      taken_.bytes = std::max(taken_.bytes, bytes);
    }
  }
  [[nodiscard]] Taken taken() const { return taken_; }

 private:
  struct Life {
    std::size_t first, last;
    std::int64_t bytes;
  };
  static std::size_t at(int value) { return static_cast<std::size_t>(value - 1); }

  void want(int value, int step) {
    if (value == 0 || now_[at(value)] >= 0) return;
    want(value - 1, step);
    make(value, step);
  }
  void read(int value) {
    if (value > 0) lives_[static_cast<std::size_t>(now_[at(value)])].last = beside_.size();
  }
  void make(int value, int step) {
    const Link& link = links_[at(value)];
    read(value - 1);
    now_[at(value)] = static_cast<int>(lives_.size());
    lives_.push_back({beside_.size(), beside_.size(), link.bytes});
    beside_.push_back(link.making + (step > 0 ? links_[at(step)].waiting : 0));
    taken_.us += link.us;
    if (step == 0) forward_us_ += link.us;
  }

  const std::vector<Link>& links_;
  std::vector<int> now_;
  std::vector<Life> lives_;
  std::vector<std::int64_t> beside_;  // moment -> bytes that are no values
  double forward_us_ = 0.0;
  Taken taken_;
};

TEST_CASE("checkpoints: on short chains the least time within any bytes is that of every choice") {
  std::mt19937 random(9);
  const auto below = [&](int end) {
    return static_cast<std::int64_t>(random() % static_cast<unsigned>(end));
  };
  int twice = 0;
  for (int round = 0; round < 300; ++round) {
    const int count = 2 + round % 4;
    std::vector<Link> links;
    for (int i = 0; i < count; ++i) {
      links.push_back(
          {static_cast<double>(1 + below(20)), 1 + below(8), below(4), below(4), below(6)});
      if (round % 3 == 0) links.back() = {1.0, 1};
    }
    std::vector<Taken> all;
    const int pairs = count * (count - 1) / 2;  // of a value and a later step that it is made for
    for (int code = 0; code < 1 << pairs; ++code) {
      Again again(links.size());
      int bit = 0;
      for (int value = 1; value < count; ++value)
        for (int step = count; step > value; --step)
          if ((code >> bit++ & 1) != 0) again[static_cast<std::size_t>(value - 1)].push_back(step);
      all.push_back(Run(links, again).taken());
    }
    const auto found = checkpoints(links, 1);
    REQUIRE(!found.empty());
    const auto fewest = std::ranges::min_element(all, {}, &Taken::bytes)->bytes;
    CHECK(found.front().us == 0.0);
    REQUIRE(found.back().bytes == fewest);
    for (const Checkpoints& choice : found) {
      const Taken taken = Run(links, choice.again).taken();
      double best = taken.us;
      for (const Taken& other : all)
        if (other.bytes <= choice.bytes) best = std::min(best, other.us);
      CAPTURE(round);
      CAPTURE(choice.bytes);
      REQUIRE(taken.us == choice.us);
      REQUIRE(taken.bytes <= choice.bytes);
      REQUIRE(taken.us == best);
      twice +=
          std::ranges::any_of(choice.again, [](const auto& steps) { return steps.size() > 1; });
    }
  }
  CHECK(twice > 10);
}

TEST_CASE("checkpoints: of 100 equal links, few values are there at once") {
  const std::vector<Link> links(100, {1.0, 1});
  const auto found = checkpoints(links, 1);
  CHECK(found.front().bytes == 99);
  CHECK(found.back().bytes == 2);
  for (const Checkpoints& choice : found) {
    if (choice.bytes == 20) CHECK(choice.us < 100.0);  // about a forward pass more
  }
}

TEST_CASE("checkpoints: larger units need no fewer bytes and no less time") {
  std::vector<Link> links;
  for (int i = 0; i < 12; ++i) links.push_back({1.0 + i % 5, 100 + 37 * (i % 7), 10, 20, 30});
  const auto exact = checkpoints(links, 1), rough = checkpoints(links, 64);
  for (const Checkpoints& choice : rough) {
    const Taken taken = Run(links, choice.again).taken();
    CHECK(taken.bytes <= choice.bytes);
    double best = taken.us;
    for (const Checkpoints& other : exact)
      if (other.bytes <= choice.bytes) best = std::min(best, other.us);
    CHECK(best <= taken.us);
    CHECK(taken.us == choice.us);
  }
}

}  // namespace
}  // namespace poolgrad::passes
