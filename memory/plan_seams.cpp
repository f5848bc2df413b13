// Sums of sizes by meeting in the middle: a sorted table for either half of a seam's pieces.
#include "memory/plan_seams.h"

#include <algorithm>
#include <bit>

namespace poolgrad::memory {

Seams::Seams(std::span<const Piece> pieces, int columns)
    : pieces_(pieces),
      seams_(static_cast<std::size_t>(columns) + 1),
      begin_bit_(pieces.size()),
      end_bit_(pieces.size()),
      used_(pieces.size()),
      known_(kKnown) {
  for (const bool begins : {true, false}) {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      Seam& seam = seams_[static_cast<std::size_t>(begins ? pieces[i].first : pieces[i].end)];
      const auto bit = static_cast<int>(seam.pieces.size());
      (begins ? begin_bit_ : end_bit_)[i] = bit;
      seam.pieces.push_back(static_cast<int>(i));
      if (begins) ++seam.beginning;
    }
  }
}

void Seams::reset() {
  std::ranges::fill(used_, 0);
  for (Seam& seam : seams_) seam.unused = exact(seam) ? (Mask{1} << seam.pieces.size()) - 1 : 0;
}

void Seams::use(int piece) {
  const auto p = static_cast<std::size_t>(piece);
  used_[p] = 1;
  Seam& first = seams_[static_cast<std::size_t>(pieces_[p].first)];
  Seam& end = seams_[static_cast<std::size_t>(pieces_[p].end)];
  if (exact(first)) first.unused &= ~(Mask{1} << begin_bit_[p]);
  if (exact(end)) end.unused &= ~(Mask{1} << end_bit_[p]);
}

void Seams::give_back(int piece) {
  const auto p = static_cast<std::size_t>(piece);
  used_[p] = 0;
  Seam& first = seams_[static_cast<std::size_t>(pieces_[p].first)];
  Seam& end = seams_[static_cast<std::size_t>(pieces_[p].end)];
  if (exact(first)) first.unused |= Mask{1} << begin_bit_[p];
  if (exact(end)) end.unused |= Mask{1} << end_bit_[p];
}

int Seams::fewest(int seam, std::int64_t rise, int without) {
  Seam& s = seams_[static_cast<std::size_t>(seam)];
  if (rise == 0) return 0;
  if (!exact(s)) return few(s, rise, without);
  Mask unused = s.unused;
  if (without >= 0) {
    const auto p = static_cast<std::size_t>(without);
    unused &= ~(Mask{1} << (pieces_[p].first == seam ? begin_bit_ : end_bit_)[p]);
  }
  const std::uint64_t hash =
      (static_cast<std::uint64_t>(rise) * 0x9E3779B97F4A7C15U) ^
      (((static_cast<std::uint64_t>(unused) << 20U) + static_cast<std::uint64_t>(seam)) *
       0xD6E8FEB86659FD93U);
  Known& known = known_[(hash >> 40U) % kKnown];
  if (known.seam != seam || known.unused != unused || known.rise != rise)
    known = {rise, unused, seam, search(s, rise, unused)};
  return known.fewest;
}

std::int64_t Seams::value(const Seam& seam, std::size_t place) const {
  const std::int64_t size = pieces_[static_cast<std::size_t>(seam.pieces[place])].size;
  return place < seam.beginning ? size : -size;
}

/// All sums of the pieces from `begin` to `end`, by value.
std::vector<Seams::Sum> Seams::sums(const Seam& seam, std::size_t begin, std::size_t end) const {
  std::vector<Sum> result{{0, 0}};
  for (std::size_t place = begin; place < end; ++place) {
    const auto without = static_cast<std::ptrdiff_t>(result.size());
    for (std::ptrdiff_t i = 0; i < without; ++i) {
      const Sum sum = result[static_cast<std::size_t>(i)];
      result.push_back({sum.value + value(seam, place), sum.pieces | Mask{1} << place});
    }
    std::ranges::inplace_merge(result, result.begin() + without, {}, &Sum::value);
  }
  return result;
}

void Seams::make_sums(Seam& seam) const {
  if (!seam.low.empty()) return;
  seam.low = sums(seam, 0, seam.pieces.size() / 2);
  seam.high = sums(seam, seam.pieces.size() / 2, seam.pieces.size());
}

/// One half upwards, the other downwards.
int Seams::search(Seam& seam, std::int64_t rise, Mask unused) const {
  make_sums(seam);
  int result = kNever;
  auto high = seam.high.end();
  for (const Sum& low : seam.low) {
    if ((low.pieces & ~unused) != 0) continue;
    const std::int64_t rest = rise - low.value;
    while (high != seam.high.begin() && std::prev(high)->value > rest) --high;
    for (auto it = high; it != seam.high.begin() && std::prev(it)->value == rest;) {
      --it;
      if ((it->pieces & ~unused) == 0)
        result = std::min(result, std::popcount(low.pieces | it->pieces));
    }
  }
  return result;
}

/// Of too many pieces for tables: one or two of the first.
int Seams::few(const Seam& seam, std::int64_t rise, int without) const {
  constexpr std::size_t kTried = 24;
  std::int64_t sizes[kTried];
  std::size_t count = 0;
  for (const int piece : seam.pieces) {
    const auto p = static_cast<std::size_t>(piece);
    if (piece == without || used_[p] != 0 || count == kTried) continue;
    const bool begins = &seam == &seams_[static_cast<std::size_t>(pieces_[p].first)];
    sizes[count++] = begins ? pieces_[p].size : -pieces_[p].size;
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (sizes[i] == rise) return 1;
  }
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (sizes[i] + sizes[k] == rise) return 2;
    }
  }
  return kMany;
}

void Seams::divide(std::span<const std::int64_t> spare) {
  for (std::size_t c = 1; c + 1 < seams_.size(); ++c) {
    if (exact(seams_[c]) && spare[c - 1] == 0 && spare[c] == 0) divide(seams_[c]);
  }
}

/// Sets whose sum is 0 and that have no such part are groups; where such sets overlap, together.
void Seams::divide(Seam& seam) const {
  constexpr std::size_t kMostSets = 5000;
  make_sums(seam);
  std::vector<Mask> level;
  auto high = seam.high.end();
  for (const Sum& low : seam.low) {
    while (high != seam.high.begin() && std::prev(high)->value > -low.value) --high;
    for (auto it = high; it != seam.high.begin() && std::prev(it)->value == -low.value;) {
      --it;
      if ((low.pieces | it->pieces) != 0) level.push_back(low.pieces | it->pieces);
      if (level.size() > kMostSets) return;
    }
  }
  std::ranges::stable_sort(level, {}, [](Mask set) { return std::popcount(set); });
  std::vector<Mask> least, groups;
  seam.several = 0;
  for (const Mask set : level) {
    if (std::ranges::any_of(least, [&](Mask part) { return (part & ~set) == 0; })) continue;
    least.push_back(set);
    Mask group = set;
    std::erase_if(groups, [&](Mask other) {
      if ((other & group) == 0) return false;
      group |= other;
      seam.several |= group;
      return true;
    });
    groups.push_back(group);
  }
  seam.groups.assign(seam.pieces.size(), kUnknown);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if ((seam.several & groups[g]) != 0) seam.several |= groups[g];
    for (std::size_t place = 0; place < seam.pieces.size(); ++place) {
      if ((groups[g] >> place & 1U) != 0) seam.groups[place] = static_cast<int>(g);
    }
  }
}

int Seams::group(int piece, bool at_end) const {
  const auto p = static_cast<std::size_t>(piece);
  const Seam& seam = seams_[static_cast<std::size_t>(at_end ? pieces_[p].end : pieces_[p].first)];
  if (seam.groups.empty()) return kUnknown;
  return seam.groups[static_cast<std::size_t>((at_end ? end_bit_ : begin_bit_)[p])];
}

int Seams::least_group(int piece, bool at_end) const {
  const auto p = static_cast<std::size_t>(piece);
  const auto seam = static_cast<std::size_t>(at_end ? pieces_[p].end : pieces_[p].first);
  if (seam == 0 || seam + 1 == seams_.size()) return 0;
  const int place = (at_end ? end_bit_ : begin_bit_)[p];
  const int result = group(piece, at_end);
  return result == kUnknown || (seams_[seam].several >> place & 1U) != 0 ? kUnknown : result;
}

}  // namespace poolgrad::memory
