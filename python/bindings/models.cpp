// poolgrad.models: the C++ models as functions of a handle.
#include "models/chain.h"
#include "models/cnn.h"
#include "models/mlp.h"
#include "models/resnet.h"
#include "models/unet.h"
#include "python/bindings/handle.h"

namespace poolgrad::python {
namespace {

Tensor mlp(Tensor x, const std::vector<std::int64_t>& hidden, std::int64_t classes,
           std::uint64_t seed) {
  const std::int64_t inputs = x.shape().count() / x.shape()[0];
  return models::mlp(inputs, hidden, classes, seed)(*x.graph, x, true);
}

void check_images(const char* model, Tensor x) {
  if (x.shape().rank() == 4) return;
  throw ShapeError(text(model, ": x ", x.shape(), " are no images [n, channels, height, width]"));
}

Tensor cnn(Tensor x, std::int64_t classes, std::uint64_t seed) {
  check_images("cnn", x);
  const models::CnnInput input{x.shape()[1], x.shape()[2], x.shape()[3]};
  return models::cnn(input, classes, seed)(*x.graph, x, true);
}

Tensor resnet(Tensor x, std::int64_t blocks, std::int64_t width, std::int64_t classes,
              std::uint64_t seed, bool training) {
  check_images("resnet", x);
  return models::resnet(blocks, width, classes, seed)(*x.graph, x, training);
}

Tensor chain(Tensor x, std::int64_t depth, std::int64_t width, std::int64_t classes,
             std::uint64_t seed) {
  check_images("chain", x);
  return models::chain(depth, width, classes, seed)(*x.graph, x, true);
}

Tensor unet(Tensor x, std::int64_t width, std::int64_t classes, std::uint64_t seed) {
  check_images("unet", x);
  return models::unet(width, classes, seed)(*x.graph, x, true);
}

}  // namespace

void bind_models(nb::module_& module) {
  module.def("mlp_model", mlp, "x"_a, "hidden"_a, "classes"_a, "seed"_a);
  module.def("cnn_model", cnn, "x"_a, "classes"_a, "seed"_a);
  module.def("resnet_model", resnet, "x"_a, "blocks"_a, "width"_a, "classes"_a, "seed"_a,
             "training"_a);
  module.def("chain_model", chain, "x"_a, "depth"_a, "width"_a, "classes"_a, "seed"_a);
  module.def("unet_model", unet, "x"_a, "width"_a, "classes"_a, "seed"_a);
}

}  // namespace poolgrad::python
