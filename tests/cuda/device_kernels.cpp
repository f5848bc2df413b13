// The table of makers, and a device made of them.
#include "tests/cuda/device_kernels.h"

#include "engine/cuda/kernels.h"
#include "train/updates.h"

namespace poolgrad::testing {

std::map<std::string, FakeLauncher::Maker> own_kernels() {
  return {{"relu", cuda::relu},
          {"relu_grad", cuda::relu_grad},
          {"add", cuda::add},
          {"cast", cuda::cast},
          {"duplicate", cuda::duplicate},
          {"reorder", cuda::reorder},
          {"concat", cuda::concat},
          {"concat_grad", cuda::concat_part},
          {"dropout", cuda::dropout},
          {"dropout_grad", cuda::dropout},
          {"sum_rows", cuda::sum_rows},
          {"softmax_cross_entropy", cuda::softmax_cross_entropy},
          {"softmax_cross_entropy_grad", cuda::softmax_cross_entropy_grad},
          {"count_correct", cuda::count_correct},
          {"gather", cuda::gather},
          {"max_pool2d", cuda::max_pool2d},
          {"max_pool2d_grad", cuda::max_pool2d_grad},
          {"avg_pool2d", cuda::avg_pool2d},
          {"avg_pool2d_grad", cuda::avg_pool2d_grad},
          {"upsample_nearest2d", cuda::upsample_nearest2d},
          {"upsample_nearest2d_grad", cuda::upsample_nearest2d_grad},
          {"batch_norm_sums", cuda::batch_norm_sums},
          {"batch_norm_statistics", cuda::batch_norm_statistics},
          {"batch_norm_track", cuda::batch_norm_track},
          {"batch_norm", cuda::batch_norm},
          {"batch_norm_fixed", cuda::batch_norm_fixed},
          {"batch_norm_grad_sums", cuda::batch_norm_grad_sums},
          {"batch_norm_parameters_grad", cuda::batch_norm_parameters_grad},
          {"batch_norm_grad", cuda::batch_norm_grad},
          {"sgd", train::sgd_cuda},
          {"sgd_momentum", train::sgd_momentum_cuda},
          {"adam", train::adam_cuda},
          {"adamw", train::adamw_cuda},
          {"tick", train::tick_cuda},
          {"sum_squares", train::sum_squares_cuda},
          {"grad_scale", train::grad_scale_cuda},
          {"update_scale", train::update_scale_cuda}};
}

std::set<std::string> library_ops() {
  return {"matmul", "conv2d", "conv2d_data", "conv2d_weights", "conv2d_weights_bias"};
}

std::shared_ptr<FakeLauncher> fake_device() {
  if (kCuda) return std::make_shared<FakeLauncher>();
  return std::make_shared<FakeLauncher>(own_kernels());
}

}  // namespace poolgrad::testing
