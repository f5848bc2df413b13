// later(s, t) is the time to do the backward steps of links t to s + 1 when of the values before t
// only that of s is there; first(s) the same for all links after s while the forward pass goes on,
// which costs nothing. The first value behind s that is kept on the way divides either in two.
#include "engine/passes/checkpoints.h"

#include <algorithm>
#include <limits>

namespace poolgrad::passes {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

/// Values and links count from 1; value 0 is what comes before the first link.
class Table {
 public:
  Table(const std::vector<Link>& links, std::int64_t unit)
      : links_(links), unit_(unit), last_(static_cast<int>(links.size())) {
    std::int64_t all = 0, beside = 0;
    for (const Link& link : links) {
      all += link.bytes + unit;
      beside = std::max({beside, link.making + 2 * link.bytes + link.waiting, link.backward});
    }
    units_ = units(all + beside) + 1;
    later_.resize(at(last_, last_) + 1);
    first_.resize(links.size(), std::vector<double>(units_, kNever));
    for (int length = 1; length <= last_; ++length)
      for (int s = 0; s + length <= last_; ++s) fill_later(s, s + length);
    for (int s = last_ - 1; s >= 0; --s) fill_first(s);
  }

  [[nodiscard]] std::vector<Checkpoints> all() const {
    std::vector<Checkpoints> result;
    for (std::size_t m = units_; m-- > 0;) {
      const double us = first_[0][m];
      if (us == kNever) break;
      if (m > 0 && first_[0][m - 1] == us) continue;
      Checkpoints found{.again = std::vector<std::vector<int>>(links_.size()),
                        .us = us,
                        .bytes = static_cast<std::int64_t>(m) * unit_};
      choose_first(0, m, found);
      result.push_back(std::move(found));
    }
    return result;
  }

 private:
  [[nodiscard]] const Link& link(int i) const { return links_[static_cast<std::size_t>(i - 1)]; }
  [[nodiscard]] std::size_t units(std::int64_t bytes) const {
    return static_cast<std::size_t>((bytes + unit_ - 1) / unit_);
  }
  [[nodiscard]] std::size_t kept(int value) const { return units(link(value).bytes); }
  [[nodiscard]] std::size_t at(int s, int t) const {
    return static_cast<std::size_t>(s) * static_cast<std::size_t>(last_ + 1) +
           static_cast<std::size_t>(t);
  }

  /// On the way from value s to each later one: time, and the most bytes beside value s.
  struct Way {
    double us = 0.0;
    std::int64_t bytes = 0;
  };
  void go_on(Way& way, int s, int value) const {
    const Link& made = link(value);
    way.us += made.us;
    way.bytes =
        std::max(way.bytes, (value - 1 > s ? link(value - 1).bytes : 0) + made.bytes + made.making);
  }

  void fill_later(int s, int t) {
    std::vector<double>& best = later_[at(s, t)];
    best.assign(units_, kNever);
    if (t == s + 1) return std::fill(best.begin() + least(link(t).backward), best.end(), 0.0);
    Way way;
    for (int i = s + 1; i < t; ++i) {
      go_on(way, s, i);
      const std::vector<double>&inner = later_[at(i, t)], &rest = later_[at(s, i)];
      const std::size_t keep = kept(i);
      for (std::size_t m = std::max(keep, units(way.bytes + link(t).waiting)); m < units_; ++m)
        best[m] = std::min(best[m], way.us + inner[m - keep] + rest[m]);
    }
  }
  void fill_first(int s) {
    std::vector<double>& best = first_[static_cast<std::size_t>(s)];
    Way way;
    for (int i = s + 1; i < last_; ++i) {
      go_on(way, s, i);
      const std::vector<double>&inner = first_[static_cast<std::size_t>(i)],
            &rest = later_[at(s, i)];
      const std::size_t keep = kept(i);
      for (std::size_t m = std::max(keep, units(way.bytes)); m < units_; ++m)
        best[m] = std::min(best[m], inner[m - keep] + rest[m]);
    }
    for (std::size_t m = units(way.bytes); m < units_; ++m)  // nothing is kept behind s
      best[m] = std::min(best[m], later_[at(s, last_)][m]);
  }
  [[nodiscard]] std::ptrdiff_t least(std::int64_t bytes) const {
    return static_cast<std::ptrdiff_t>(std::min(units(bytes), units_));
  }

  void choose_first(int s, std::size_t m, Checkpoints& found) const {
    const double best = first_[static_cast<std::size_t>(s)][m];
    Way way;
    for (int i = s + 1; i < last_; ++i) {
      go_on(way, s, i);
      if (m < std::max(kept(i), units(way.bytes))) continue;
      if (first_[static_cast<std::size_t>(i)][m - kept(i)] + later_[at(s, i)][m] > best) continue;
      choose_first(i, m - kept(i), found);
      return choose_later(s, i, m, found);
    }
    choose_later(s, last_, m, found);
  }
  /// All between s and t are made again for t, whatever is kept of them.
  void choose_later(int s, int t, std::size_t m, Checkpoints& found) const {
    for (int value = s + 1; value < t; ++value)
      found.again[static_cast<std::size_t>(value - 1)].push_back(t);
    divide(s, t, m, found);
  }
  void divide(int s, int t, std::size_t m, Checkpoints& found) const {
    Way way;
    for (int i = s + 1; i < t; ++i) {
      go_on(way, s, i);
      if (m < std::max(kept(i), units(way.bytes + link(t).waiting))) continue;
      if (way.us + later_[at(i, t)][m - kept(i)] + later_[at(s, i)][m] > later_[at(s, t)][m])
        continue;
      divide(i, t, m - kept(i), found);
      return choose_later(s, i, m, found);
    }
  }

  const std::vector<Link>& links_;
  std::int64_t unit_;
  int last_;
  std::size_t units_ = 0;
  std::vector<std::vector<double>> later_, first_;  // by bytes beside value s
};

}  // namespace

std::vector<Checkpoints> checkpoints(const std::vector<Link>& links, std::int64_t unit) {
  if (links.empty()) return {};
  return Table(links, unit).all();
}

}  // namespace poolgrad::passes
