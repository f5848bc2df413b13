// Handles in Python: a tensor of a graph together with its share in the graph, so that none ever
// dangles. Functions are bound with poolgrad::Tensor; the caster below turns one into the other. An
// empty tensor is None.
#pragma once

#include <memory>

#include "engine/graph.h"
#include "python/bindings/bindings.h"

namespace poolgrad::python {

struct Handle {
  Tensor tensor;
  std::shared_ptr<Graph> graph;
};

}  // namespace poolgrad::python

template <>
struct nanobind::detail::type_caster<poolgrad::Tensor> {
  NB_TYPE_CASTER(poolgrad::Tensor, make_caster<poolgrad::python::Handle>::Name)

  bool from_python(handle source, uint32_t flags, cleanup_list* cleanup) noexcept {
    make_caster<poolgrad::python::Handle> caster;
    if (source.is_none() || !caster.from_python(source, flags, cleanup)) return false;
    value = caster.operator poolgrad::python::Handle&().tensor;
    return true;
  }

  static handle from_cpp(const poolgrad::Tensor& tensor, rv_policy, cleanup_list* cleanup) {
    if (!tensor) return none().release();
    poolgrad::python::Handle made{tensor, tensor.graph->weak_from_this().lock()};
    return make_caster<poolgrad::python::Handle>::from_cpp(std::move(made), rv_policy::move,
                                                           cleanup);
  }
};
