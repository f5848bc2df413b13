// Bins of free blocks and the table of live ones.
#include "memory/pool_blocks.h"

#include <bit>

namespace poolgrad::memory {

std::size_t FreeBlocks::bin_of(std::size_t bytes) {
  const std::size_t granules = bytes / kGranule;
  if (granules < 16) return granules;
  const auto shift = static_cast<std::size_t>(std::bit_width(granules)) - 5;  // keeps 5 bits
  return 16 * shift + (granules >> shift);
}

std::size_t FreeBlocks::next_used(std::size_t bin) const {
  std::size_t word = bin / 64;
  if (word >= used_.size()) return kBins;
  std::uint64_t bits = used_[word] & (~std::uint64_t{0} << bin % 64);
  while (bits == 0) {
    if (++word == used_.size()) return kBins;
    bits = used_[word];
  }
  return word * 64 + static_cast<std::size_t>(std::countr_zero(bits));
}

void FreeBlocks::insert(Block* block) {
  const std::size_t bin = bin_of(block->bytes);
  Block* before = nullptr;
  Block* after = bins_[bin];
  while (after != nullptr && after->bytes < block->bytes) {
    before = after;
    after = after->next;
  }
  block->free = true;
  block->previous = before;
  block->next = after;
  if (after != nullptr) after->previous = block;
  (before != nullptr ? before->next : bins_[bin]) = block;
  used_[bin / 64] |= std::uint64_t{1} << bin % 64;
  ++count_;
  bytes_ += block->bytes;
}

void FreeBlocks::remove(Block* block) {
  const std::size_t bin = bin_of(block->bytes);
  if (block->next != nullptr) block->next->previous = block->previous;
  (block->previous != nullptr ? block->previous->next : bins_[bin]) = block->next;
  if (bins_[bin] == nullptr) used_[bin / 64] &= ~(std::uint64_t{1} << bin % 64);
  block->free = false;
  --count_;
  bytes_ -= block->bytes;
}

Block* FreeBlocks::best_fit(std::size_t bytes) const {
  const std::size_t bin = bin_of(bytes);
  for (Block* block = bins_[bin]; block != nullptr; block = block->next) {
    if (block->bytes >= bytes) return block;
  }
  const std::size_t larger = next_used(bin + 1);
  return larger < kBins ? bins_[larger] : nullptr;
}

std::size_t FreeBlocks::largest_bytes() const {
  std::size_t result = 0;
  for (std::size_t word = used_.size(); word-- > 0;) {
    if (used_[word] == 0) continue;
    const std::size_t bin =
        word * 64 + 63 - static_cast<std::size_t>(std::countl_zero(used_[word]));
    for (const Block* block = bins_[bin]; block != nullptr; block = block->next) {
      result = block->bytes;
    }
    break;
  }
  return result;
}

std::size_t LiveBlocks::home(const void* data) const {
  const auto granules = reinterpret_cast<std::uintptr_t>(data) / kGranule;
  const std::uint64_t mixed = granules * 0x9e3779b97f4a7c15U;  // the golden ratio spreads them
  return static_cast<std::size_t>(mixed >> 20U) & (table_.size() - 1);
}

void LiveBlocks::reserve_one() {
  if (2 * (count_ + 1) <= table_.size()) return;
  std::vector<Block*> old(table_.empty() ? 64 : 2 * table_.size());
  old.swap(table_);
  count_ = 0;
  for (Block* block : old) {
    if (block != nullptr) insert(block);
  }
}

void LiveBlocks::insert(Block* block) {
  table_[place_of(block->data)] = block;
  ++count_;
}

std::size_t LiveBlocks::place_of(const void* data) const {
  const std::size_t mask = table_.size() - 1;
  std::size_t place = home(data);
  while (table_[place] != nullptr && table_[place]->data != data) place = (place + 1) & mask;
  return place;
}

Block* LiveBlocks::remove(const void* data) {
  if (table_.empty()) return nullptr;
  const std::size_t mask = table_.size() - 1;
  std::size_t hole = place_of(data);
  Block* const found = table_[hole];
  if (found == nullptr) return nullptr;
  // Whoever stands behind the hole and would not be found across it moves into it.
  for (std::size_t place = (hole + 1) & mask; table_[place] != nullptr;
       place = (place + 1) & mask) {
    const std::size_t distance = (place - home(table_[place]->data)) & mask;
    if (distance < ((place - hole) & mask)) continue;
    table_[hole] = table_[place];
    hole = place;
  }
  table_[hole] = nullptr;
  --count_;
  return found;
}

}  // namespace poolgrad::memory
