// The oneDNN shim: a primitive made ready once, then run on plain addresses by the thread that
// calls. Knows no ops. Empty where oneDNN is absent.
#pragma once
#ifdef POOLGRAD_ONEDNN

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

#include "engine/backend/one_thread.h"
#include "engine/op.h"
#include "memory/allocation_count.h"

namespace poolgrad::onednn {

/// Primitives, memories and streams point at their engine without keeping it: so there is one, for
/// ever.
[[nodiscard]] const dnnl::engine& cpu();
/// Any of our dense tensors, by its strides.
[[nodiscard]] dnnl::memory::desc desc(const Spec& spec);
/// The same extents in whatever order a primitive likes best.
[[nodiscard]] dnnl::memory::desc any_order(const dnnl::memory::desc& desc);
/// What becomes of a result, in this order.
struct Post {
  bool scaled = false;  // times a number that comes with the call
  float keep = 0.0F;    // plus what is there, times this
  bool relu = false;
};
/// With the scratchpad in our workspace.
[[nodiscard]] dnnl::primitive_attr attributes(const Post& post = {});

[[nodiscard]] DeviceError error(std::string_view op, const dnnl::error& error);

/// What `make` answers on one thread, on which scratchpads depend: a kernel with its primitives.
/// Nothing where oneDNN has no implementation but those refused: the reference is slower by orders
/// of magnitude. Any other failure is a DeviceError with op and call.
template <typename F>
std::optional<Kernel> prepare(std::string_view op, F&& make) {
  const memory::InLibrary mark;
  const OneThread one_thread;
  try {
    return make();
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_unimplemented) return std::nullopt;
    throw error(op, e);
  }
}

/// Throws, for prepare(), where the best that is left is the reference implementation, or one
/// through gemm, which packs its operands in memory of its own at each call.
void refuse(const dnnl::primitive_desc_base& made);

class Primitive {
 public:
  struct Operand {
    int argument;  // DNNL_ARG_x
    dnnl::memory::desc desc;
  };
  /// `operands` in the order in which run() takes their addresses. The scratchpad comes last there.
  Primitive(std::string_view op, const dnnl::primitive& primitive,
            const dnnl::primitive_desc_base& made, std::vector<Operand> operands);

  /// Not for two threads at once: the addresses are kept.
  void run(std::initializer_list<const void*> addresses) const;

  [[nodiscard]] std::size_t scratch_bytes() const { return scratch_bytes_; }

 private:
  std::string op_;
  dnnl::primitive primitive_;
  dnnl::stream stream_;
  std::size_t scratch_bytes_;
  std::vector<dnnl::memory> memories_;
  std::vector<dnnl_exec_arg_t> arguments_;
};

/// Moves a tensor from one order into another, or adds it there.
[[nodiscard]] Primitive reorder(std::string_view op, const dnnl::memory::desc& from,
                                const dnnl::memory::desc& to, bool add = false);

}  // namespace poolgrad::onednn
#endif
