// The oneDNN shim, where it needs no ops.
#include "engine/backend/onednn.h"

#ifdef POOLGRAD_ONEDNN
#include <oneapi/dnnl/dnnl_debug.h>

namespace poolgrad::onednn {
namespace {

dnnl::memory::data_type data_type(DType dtype) {
  using Type = dnnl::memory::data_type;
  switch (dtype) {
    case DType::f32:
      return Type::f32;
    case DType::bf16:
      return Type::bf16;
    case DType::f16:
      return Type::f16;
    case DType::i32:
      return Type::s32;
    case DType::u8:
      return Type::u8;
    default:
      throw DeviceError(text("onednn: no data type for ", dtype));
  }
}

}  // namespace

const dnnl::engine& cpu() {
  static const auto* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

dnnl::memory::desc desc(const Spec& spec) {
  const auto extents = spec.shape.extents();
  const Shape strides = spec.strides();
  return {dnnl::memory::dims(extents.begin(), extents.end()), data_type(spec.dtype),
          dnnl::memory::dims(strides.extents().begin(), strides.extents().end())};
}

dnnl::memory::desc any_order(const dnnl::memory::desc& desc) {
  return {desc.dims(), desc.data_type(), dnnl::memory::format_tag::any};
}

dnnl::primitive_attr attributes(const Post& post) {
  dnnl::post_ops post_ops;
  if (post.keep != 0.0F) post_ops.append_sum(post.keep);
  if (post.relu) post_ops.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  attributes.set_post_ops(post_ops);
  if (post.scaled) attributes.set_output_scales(0, {DNNL_RUNTIME_F32_VAL});
  return attributes;
}

DeviceError error(std::string_view op, const dnnl::error& error) {
  return DeviceError(text(op, ": oneDNN ", error.what(), " (", dnnl_status2str(error.status), ")"));
}

void refuse(const dnnl::primitive_desc_base& made) {
  const std::string_view implementation = made.impl_info_str();
  if (implementation.starts_with("ref") || implementation.starts_with("gemm"))
    throw dnnl::error(dnnl_unimplemented, "has no implementation of its own");
}

Primitive::Primitive(std::string_view op, const dnnl::primitive& primitive,
                     const dnnl::primitive_desc_base& made, std::vector<Operand> operands)
    : op_(op),
      primitive_(primitive),
      stream_(cpu()),
      scratch_bytes_(made.scratchpad_desc().get_size()) {
  operands.push_back({DNNL_ARG_SCRATCHPAD, made.scratchpad_desc()});
  for (const auto& [argument, desc] : operands) {
    memories_.emplace_back(desc, cpu(), nullptr);
    arguments_.push_back({argument, memories_.back().get()});
  }
}

void Primitive::run(std::initializer_list<const void*> addresses) const {
  assert(addresses.size() == memories_.size());
  const memory::InLibrary mark;
  const OneThread one_thread;
  std::size_t i = 0;
  for (const void* address : addresses) memories_[i++].set_data_handle(const_cast<void*>(address));
  // The C call: the one of C++ builds a map and a vector each time.
  const dnnl_status_t status = dnnl_primitive_execute(
      primitive_.get(), stream_.get(), static_cast<int>(arguments_.size()), arguments_.data());
  if (status != dnnl_success)
    throw error(op_, dnnl::error(status, "dnnl_primitive_execute failed"));
}

Primitive reorder(std::string_view op, const dnnl::memory::desc& from, const dnnl::memory::desc& to,
                  bool add) {
  const dnnl::engine& engine = cpu();
  const dnnl::reorder::primitive_desc made(engine, from, engine, to,
                                           attributes({.keep = add ? 1.0F : 0.0F}));
  return {op, dnnl::reorder(made), made, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}}};
}

}  // namespace poolgrad::onednn
#endif
