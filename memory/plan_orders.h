// Plan orders: in which orders the greedy planner takes its items. Internal to memory/.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "memory/plan_items.h"

namespace poolgrad::memory {

/// A permutation of items, the first to be placed first.
using Order = std::vector<std::size_t>;

/// The orders worth trying for `items`, made one by one. None is best everywhere: largest first is
/// good on most steps, others where long-lived small requests would end up between the large ones.
class Orders {
 public:
  explicit Orders(std::span<const Item> items);

  [[nodiscard]] static std::size_t count();
  [[nodiscard]] Order make(std::size_t which) const;

 private:
  /// What an order may go by, one per item.
  struct Measures {
    double size = 0;
    double width = 0;    // steps
    double area = 0;     // size · width
    double breadth = 0;  // most bytes alive at one of its steps
    double crowd = 0;    // bytes of all it may be alive together with
    double shared = 0;   // 1 when several members touch it
  };
  using Key = double Measures::*;

  // By the first measure, ties by the next, all of them largest first; ties in the items' order.
  static constexpr std::array<std::array<Key, 3>, 9> kOrders{{
      {&Measures::size, &Measures::width, &Measures::crowd},
      {&Measures::crowd, &Measures::size, &Measures::width},
      {&Measures::breadth, &Measures::size, &Measures::width},
      {&Measures::area, &Measures::width, &Measures::crowd},
      {&Measures::breadth, &Measures::width, &Measures::size},
      {&Measures::breadth, &Measures::area, &Measures::width},
      {&Measures::width, &Measures::area, &Measures::breadth},
      {&Measures::shared, &Measures::size, &Measures::width},
      {&Measures::shared, &Measures::breadth, &Measures::size},
  }};

  std::vector<Measures> measures_;
};

}  // namespace poolgrad::memory
