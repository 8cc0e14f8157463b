"""Distance of Gaussians from their triangle, and their size (GaussianAvatars, eq. 6 and 7): costs and their gradients."""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.binding import load3
from taichi_avatars.kernels.types import F32x1, F32x2, I32x1, vec3


@ti.kernel
def local_losses(
    free_distance: ti.f32, free_size: ti.f32, metric_distance: ti.i32, metric_size: ti.i32,
    means: F32x1, exp_scales: F32x1, binding: I32x1, triangle_scale: F32x1, radii: I32x1,
    costs: F32x2, g_means: F32x2, g_log_scales: F32x2,
):  # fmt: skip
    """costs (2,N): what each Gaussian costs, 0 where it is not visible; and the gradients of its own cost."""
    for i in range(binding.shape[0]):
        distance_cost, size_cost, g_mean, g_log_scale = 0.0, 0.0, vec3(0.0), vec3(0.0)
        if radii[i] > 0:
            metres = triangle_scale[binding[i]]
            unit = ti.select(metric_distance > 0, metres, 1.0)
            mean = load3(means, i)
            distance = ti.sqrt(mean.dot(mean))
            distance_cost = ti.max(distance * unit - free_distance, 0.0)
            if distance_cost > 0.0:
                g_mean = mean * (unit / distance)
            size = load3(exp_scales, i) * ti.select(metric_size > 0, metres, 1.0)
            excess = ti.max(size - free_size, 0.0)
            size_cost = ti.sqrt(excess.dot(excess))
            if size_cost > 0.0:
                g_log_scale = excess * size / size_cost
        costs[0, i], costs[1, i] = distance_cost, size_cost
        for k in ti.static(range(3)):
            g_means[i, k], g_log_scales[i, k] = g_mean[k], g_log_scale[k]
