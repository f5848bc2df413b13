// The makers of CUDA kernels, one per op: what OpDef::cuda is set to in a build that has them.
// They stand together by kind, in engine/cuda/, since a source of its own for each would take nvcc
// minutes. Those of optimizers are in train/updates.h.
#pragma once

#include "engine/op.h"

namespace poolgrad::cuda {

// elementwise.cu
Kernel relu(const Site& site);
Kernel relu_grad(const Site& site);
Kernel add(const Site& site);
Kernel duplicate(const Site& site);
Kernel reorder(const Site& site);
Kernel concat(const Site& site);
Kernel concat_part(const Site& site);
Kernel dropout(const Site& site);

// cast.cu
Kernel cast(const Site& site);

// rows.cu
Kernel sum_rows(const Site& site);
Kernel softmax_cross_entropy(const Site& site);
Kernel softmax_cross_entropy_grad(const Site& site);
Kernel count_correct(const Site& site);
Kernel gather(const Site& site);

// windows.cu
Kernel max_pool2d(const Site& site);
Kernel max_pool2d_grad(const Site& site);
Kernel avg_pool2d(const Site& site);
Kernel avg_pool2d_grad(const Site& site);
Kernel upsample_nearest2d(const Site& site);
Kernel upsample_nearest2d_grad(const Site& site);

// batch_norm.cu
Kernel batch_norm_sums(const Site& site);
Kernel batch_norm_statistics(const Site& site);
Kernel batch_norm_track(const Site& site);
Kernel batch_norm(const Site& site);
Kernel batch_norm_fixed(const Site& site);
Kernel batch_norm_grad_sums(const Site& site);
Kernel batch_norm_parameters_grad(const Site& site);
Kernel batch_norm_grad(const Site& site);

// matmul.cpp, by cuBLASLt
Kernel matmul(const Site& site);

// conv2d.cpp, by cuDNN
Kernel conv2d(const Site& site);
Kernel conv2d_data(const Site& site);
Kernel conv2d_weights(const Site& site);  // and the bias, where there are two outputs

}  // namespace poolgrad::cuda
