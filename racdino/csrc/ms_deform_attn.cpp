// Multi-scale deformable attention (Zhu et al. 2021, arXiv:2010.04159, eq. 3): schema, argument checks, dispatcher
// calls. Kernels register themselves in the folder of their dispatch key: cpu/ cuda/ autograd/ autocast/; Meta in
// ops/_register.py.
#include "ms_deform_attn.h"

#include <Python.h>
#include <ATen/ExpandUtils.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <initializer_list>
#include <string>

// Importing racdino._C runs the static registrations below; the module itself is empty.
PyMODINIT_FUNC PyInit__C() {
  static PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&definition);
}

// output_mask says which gradients are wanted; one that is not wanted comes back as an empty tensor.
TORCH_LIBRARY_FRAGMENT(racdino, m) {
  m.def(
      "ms_deform_attn_forward(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor sampling_locations, Tensor attention_weights, int im2col_step=64) -> Tensor");
  m.def(
      "ms_deform_attn_backward(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor sampling_locations, Tensor attention_weights, Tensor grad_output, int im2col_step, bool[3] output_mask) "
      "-> (Tensor, Tensor, Tensor)");
  // The same from what the linear layers of a module give: softmax and locations are computed on the way.
  m.def(
      "ms_deform_attn_fused(Tensor value, Tensor spatial_shapes, Tensor level_start_index, Tensor reference_points, "
      "Tensor sampling_offsets, Tensor attention_logits) -> Tensor");
  m.def(
      "ms_deform_attn_fused_backward(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor reference_points, Tensor sampling_offsets, Tensor attention_logits, Tensor grad_output, "
      "bool[4] output_mask) -> (Tensor, Tensor, Tensor, Tensor)");
}

namespace racdino {

at::Tensor ms_deform_attn_forward(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    int64_t im2col_step) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("racdino::ms_deform_attn_forward", "")
                             .typed<decltype(ms_deform_attn_forward)>();
  return op.call(value, spatial_shapes, level_start_index, sampling_locations, attention_weights, im2col_step);
}

Gradients ms_deform_attn_backward(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    const at::Tensor& grad_output,
    int64_t im2col_step,
    std::array<bool, 3> output_mask) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("racdino::ms_deform_attn_backward", "")
                             .typed<decltype(ms_deform_attn_backward)>();
  return op.call(
      value,
      spatial_shapes,
      level_start_index,
      sampling_locations,
      attention_weights,
      grad_output,
      im2col_step,
      output_mask);
}

at::Tensor ms_deform_attn_fused(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& reference_points,
    const at::Tensor& sampling_offsets,
    const at::Tensor& attention_logits) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("racdino::ms_deform_attn_fused", "")
                             .typed<decltype(ms_deform_attn_fused)>();
  return op.call(value, spatial_shapes, level_start_index, reference_points, sampling_offsets, attention_logits);
}

FusedGradients ms_deform_attn_fused_backward(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& reference_points,
    const at::Tensor& sampling_offsets,
    const at::Tensor& attention_logits,
    const at::Tensor& grad_output,
    std::array<bool, 4> output_mask) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("racdino::ms_deform_attn_fused_backward", "")
                             .typed<decltype(ms_deform_attn_fused_backward)>();
  return op.call(
      value,
      spatial_shapes,
      level_start_index,
      reference_points,
      sampling_offsets,
      attention_logits,
      grad_output,
      output_mask);
}

namespace {

struct Dim {
  const char* letter;
  int64_t size;  // -1: any
};

std::string dtype_name(at::ScalarType dtype) { return c10::toString(dtype); }

bool has_shape(const at::Tensor& tensor, std::initializer_list<Dim> dims) {
  bool fits = tensor.dim() == static_cast<int64_t>(dims.size());
  for (size_t axis = 0; fits && axis < dims.size(); ++axis) {
    const Dim& dim = dims.begin()[axis];
    fits = dim.size < 0 || tensor.size(axis) == dim.size;
  }
  return fits;
}

// The message is put together only when the check fails, and without a stream: this runs on every call.
void check_shape(const char* name, const at::Tensor& tensor, std::initializer_list<Dim> dims) {
  if (has_shape(tensor, dims)) return;
  std::string expected;
  for (const Dim& dim : dims) {
    expected += (expected.empty() ? "" : ", ") + std::string(dim.letter);
    // A letter whose size another argument fixed is shown with it; a literal ("2") is its own value.
    if (dim.size >= 0 && std::to_string(dim.size) != dim.letter) expected += "=" + std::to_string(dim.size);
  }
  TORCH_CHECK(
      false,
      "ms_deform_attn: " + std::string(name) + " has shape " + shape_name(tensor.sizes()) + ", expected (" + expected +
          ").");
}

void check_device(const char* name, const at::Tensor& tensor, const at::Tensor& value) {
  TORCH_CHECK(
      tensor.device() == value.device(),
      "ms_deform_attn: " + std::string(name) + " is on " + tensor.device().str() + ", expected " +
          value.device().str() + " like value.");
}

void check_index(const char* name, const at::Tensor& tensor, const at::Tensor& value) {
  TORCH_CHECK(
      tensor.scalar_type() == at::kLong,
      "ms_deform_attn: " + std::string(name) + " has dtype " + dtype_name(tensor.scalar_type()) + ", expected Long.");
  check_device(name, tensor, value);
}

void check_floating(const char* name, const at::Tensor& tensor, const at::Tensor& value, bool may_be_float) {
  const auto dtype = value.scalar_type();
  TORCH_CHECK(
      tensor.scalar_type() == dtype || (may_be_float && tensor.scalar_type() == at::kFloat),
      "ms_deform_attn: " + std::string(name) + " has dtype " + dtype_name(tensor.scalar_type()) + ", expected " +
          dtype_name(dtype) + " like value" + (may_be_float && dtype != at::kFloat ? " or Float." : "."));
  check_device(name, tensor, value);
}

// What is only stored in its type and widened before use.
void check_stored(const char* name, const at::Tensor& tensor, const at::Tensor& value) {
  const auto dtype = tensor.scalar_type();
  const bool whole = value.scalar_type() == at::kDouble;
  TORCH_CHECK(
      dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16 || (whole && dtype == at::kDouble),
      "ms_deform_attn: " + std::string(name) + " has dtype " + dtype_name(dtype) + ", expected " +
          (whole ? "Double, " : "") + "Float, Half or BFloat16.");
  check_device(name, tensor, value);
}

void check_value(const at::Tensor& value) {
  check_shape("value", value, {{"B", -1}, {"S", -1}, {"M", -1}, {"D", -1}});
  const auto dtype = value.scalar_type();
  TORCH_CHECK(
      dtype == at::kDouble || dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16,
      "ms_deform_attn: value has dtype " + dtype_name(dtype) + ", expected Double, Float, Half or BFloat16.");
}

void check_size(int64_t S, int64_t samples) {
  TORCH_CHECK(
      S < (int64_t{1} << 31) && samples < (int64_t{1} << 20),
      "ms_deform_attn: value has " + std::to_string(S) + " pixels and a query samples " + std::to_string(samples) +
          " points, expected fewer than 2^31 and 2^20.");
}

}  // namespace

std::string shape_name(at::IntArrayRef shape) {
  std::string name;
  for (const int64_t size : shape) name += (name.empty() ? "[" : ", ") + std::to_string(size);
  return (name.empty() ? "[" : name) + "]";
}

Sizes check_inputs(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights,
    int64_t im2col_step) {
  check_value(value);
  check_shape("spatial_shapes", spatial_shapes, {{"L", -1}, {"2", 2}});
  const int64_t B = value.size(0), S = value.size(1), M = value.size(2), D = value.size(3), L = spatial_shapes.size(0);
  check_shape("level_start_index", level_start_index, {{"L", L}});
  check_shape("sampling_locations", sampling_locations, {{"B", B}, {"Q", -1}, {"M", M}, {"L", L}, {"P", -1}, {"2", 2}});
  const int64_t Q = sampling_locations.size(1), P = sampling_locations.size(4);
  check_shape("attention_weights", attention_weights, {{"B", B}, {"Q", Q}, {"M", M}, {"L", L}, {"P", P}});
  check_index("spatial_shapes", spatial_shapes, value);
  check_index("level_start_index", level_start_index, value);
  check_floating("sampling_locations", sampling_locations, value, true);
  check_floating("attention_weights", attention_weights, value, true);
  check_size(S, L * P);
  TORCH_CHECK(
      im2col_step > 0,
      "ms_deform_attn: im2col_step is " + std::to_string(im2col_step) + ", expected a positive number.");
  return {B, S, M, D, Q, L, P};
}

Sizes check_fused_inputs(
    const at::Tensor& value,
    const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index,
    const at::Tensor& reference_points,
    const at::Tensor& sampling_offsets,
    const at::Tensor& attention_logits) {
  check_value(value);
  check_shape("spatial_shapes", spatial_shapes, {{"L", -1}, {"2", 2}});
  const int64_t B = value.size(0), S = value.size(1), M = value.size(2), D = value.size(3), L = spatial_shapes.size(0);
  check_shape("level_start_index", level_start_index, {{"L", L}});
  check_shape("sampling_offsets", sampling_offsets, {{"B", B}, {"Q", -1}, {"M", M}, {"L", L}, {"P", -1}, {"2", 2}});
  const int64_t Q = sampling_offsets.size(1), P = sampling_offsets.size(4);
  if (!has_shape(attention_logits, {{"B", B}, {"Q", Q}, {"M", M}, {"L*P", L * P}})) {
    check_shape("attention_logits", attention_logits, {{"B", B}, {"Q", Q}, {"M", M}, {"L", L}, {"P", P}});
  }
  const auto reference = reference_points.sizes();
  const int64_t wanted[] = {B, Q, L};
  bool fits = reference.size() == 4 && (reference[3] == 2 || reference[3] == 4);
  for (int axis = 0; fits && axis < 3; ++axis) fits = reference[axis] == wanted[axis] || reference[axis] == 1;
  TORCH_CHECK(
      fits,
      "ms_deform_attn: reference_points has shape " + shape_name(reference) + ", expected (B=" + std::to_string(B) +
          ", Q=" + std::to_string(Q) + ", L=" + std::to_string(L) + ", 2 or 4), where B, Q and L may be 1.");
  check_index("spatial_shapes", spatial_shapes, value);
  check_index("level_start_index", level_start_index, value);
  check_stored("reference_points", reference_points, value);
  check_stored("sampling_offsets", sampling_offsets, value);
  check_stored("attention_logits", attention_logits, value);
  check_size(S, L * P);
  return {B, S, M, D, Q, L, P};
}

void check_grad_output(const at::Tensor& grad_output, const at::Tensor& value, const Sizes& sizes) {
  // (B, Q, M, D) holds the same elements; the field's modules use both.
  if (grad_output.dim() == 4) {
    check_shape("grad_output", grad_output, {{"B", sizes.B}, {"Q", sizes.Q}, {"M", sizes.M}, {"D", sizes.D}});
  } else {
    check_shape("grad_output", grad_output, {{"B", sizes.B}, {"Q", sizes.Q}, {"M*D", sizes.M * sizes.D}});
  }
  check_floating("grad_output", grad_output, value, false);
}

at::Tensor reference_gradient(
    const at::Tensor& grad_locations, const at::Tensor& reference_points, const at::Tensor& sampling_offsets) {
  at::Tensor gradient = grad_locations.sum({2, 4});  // over heads and points: (B, Q, L, 2)
  if (reference_points.size(-1) == 4) {
    const double share = 0.5 / static_cast<double>(sampling_offsets.size(4));
    gradient = at::cat({gradient, (grad_locations * sampling_offsets).sum({2, 4}) * share}, -1);
  }
  return at::sum_to(gradient, reference_points.sizes()).to(reference_points.scalar_type());
}

}  // namespace racdino
