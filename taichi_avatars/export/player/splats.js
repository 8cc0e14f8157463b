// Drawing: every Gaussian is transformed to the world by its triangle, projected (EWA, Zwicker et al. 2001), coloured (SH), and
// blended from back to front (Kerbl et al. 2023), all on the GPU.

const GAUSSIANS = 0, FRAMES = 1, LAYERS = 2; // texture units
const FRAME_TEXELS = 3;

const QUAD = `#version 300 es
precision highp float; precision highp int; precision highp usampler2D; precision highp sampler2D;
uniform usampler2D gaussians;
uniform sampler2D frames;
uniform int gaussians_per_row, frames_per_row;
uniform mat3 turn;      // world to camera
uniform vec3 shift, center;
uniform vec4 lens;      // fx, fy, cx, cy
uniform vec2 size;
uniform float near;
in uint index;
out vec2 place;         // in standard deviations
out vec4 color;         // red, green, blue, opacity

const float LOW_PASS = 0.3;

uvec4 word(int i, int k) {
  return texelFetch(gaussians, ivec2((i % gaussians_per_row) * TEXELS + k, i / gaussians_per_row), 0);
}
vec4 frame_row(int f, int k) {
  return texelFetch(frames, ivec2((f % frames_per_row) * ${FRAME_TEXELS} + k, f / frames_per_row), 0);
}

uvec4 sh[TEXELS - 2];
float harmonic(int n) {
  vec2 pair = unpackHalf2x16(sh[n / 8][(n / 2) % 4]);
  return n % 2 == 0 ? pair.x : pair.y;
}
vec3 band(int k) { return vec3(harmonic(3 * k), harmonic(3 * k + 1), harmonic(3 * k + 2)); }

vec3 shade(vec3 d) {
  vec3 c = vec3(0.5) + 0.28209479177387814 * band(0);
  float x = d.x, y = d.y, z = d.z;
#if DEGREE > 0
  c += 0.4886025119029199 * (z * band(2) - y * band(1) - x * band(3));
#endif
#if DEGREE > 1
  c += 1.0925484305920792 * (x * y * band(4) - y * z * band(5) - x * z * band(7));
  c += 0.31539156525252005 * (2.0 * z * z - x * x - y * y) * band(6) + 0.5462742152960396 * (x * x - y * y) * band(8);
#endif
#if DEGREE > 2
  c += -0.5900435899266435 * (y * (3.0 * x * x - y * y) * band(9) + x * (x * x - 3.0 * y * y) * band(15));
  c += 2.890611442640554 * x * y * z * band(10) + 1.445305721320277 * z * (x * x - y * y) * band(14);
  c += -0.4570457994644658 * (4.0 * z * z - x * x - y * y) * (y * band(11) + x * band(13));
  c += 0.3731763325901154 * z * (2.0 * z * z - 3.0 * x * x - 3.0 * y * y) * band(12);
#endif
  return max(c, 0.0);
}

void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0); // nowhere
  place = vec2(0.0);
  color = vec4(0.0);
  int i = int(index);
  uvec4 first = word(i, 0), second = word(i, 1);
  vec4 row0 = frame_row(int(first.w), 0), row1 = frame_row(int(first.w), 1), row2 = frame_row(int(first.w), 2);
  mat3 local = transpose(mat3(row0.xyz, row1.xyz, row2.xyz)); // world from local, scale included
  vec3 mean = local * uintBitsToFloat(first.xyz) + vec3(row0.w, row1.w, row2.w);
  vec3 p = turn * mean + shift;
  vec4 scale_opacity = vec4(unpackHalf2x16(second.z), unpackHalf2x16(second.w));
  float opacity = scale_opacity.w;
  if (p.z <= near || opacity < 1.0 / 255.0) return;

  vec4 q = vec4(unpackHalf2x16(second.x), unpackHalf2x16(second.y)); // w, x, y, z
  q /= length(q);
  float w = q.x, x = q.y, y = q.z, z = q.w;
  mat3 own = mat3(
    1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
    2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
    2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
  vec2 slope = p.xy / p.z;
  vec2 margin = 0.15 * size;
  vec2 held = clamp(slope, (-lens.zw - margin) / lens.xy, (size - lens.zw + margin) / lens.xy);
  mat3 view = turn * local * own;
  vec3 s = scale_opacity.xyz;
  vec3 b0 = lens.x / p.z * (vec3(view[0].x, view[1].x, view[2].x) - held.x * vec3(view[0].z, view[1].z, view[2].z)) * s;
  vec3 b1 = lens.y / p.z * (vec3(view[0].y, view[1].y, view[2].y) - held.y * vec3(view[0].z, view[1].z, view[2].z)) * s;
  float a = dot(b0, b0), b = dot(b0, b1), c = dot(b1, b1);
  vec3 across = cross(b0, b1);
  float determinant = dot(across, across) + LOW_PASS * (a + c) + LOW_PASS * LOW_PASS;
  a += LOW_PASS;
  c += LOW_PASS;

  // The axes of the ellipse on the screen, and how far out alpha reaches 1/255.
  float spread = length(vec2(0.5 * (a - c), b));
  float large = 0.5 * (a + c) + spread;
  float small = determinant / large;
  vec2 axis = a >= c ? vec2(large - c, b) : vec2(b, large - a);
  float norm = length(axis);
  axis = norm > 0.0 ? axis / norm : vec2(1.0, 0.0);
  float reach = sqrt(2.0 * log(opacity * 255.0));
  vec2 corner = vec2(float(gl_VertexID & 1) * 2.0 - 1.0, float(gl_VertexID >> 1) * 2.0 - 1.0);
  place = reach * corner;
  vec2 pixel = lens.xy * slope + lens.zw + place.x * sqrt(large) * axis + place.y * sqrt(small) * vec2(-axis.y, axis.x);

  for (int k = 0; k < TEXELS - 2; ++k) sh[k] = word(i, k + 2);
  color = vec4(shade(normalize(mean - center)), opacity);
  gl_Position = vec4(2.0 * pixel.x / size.x - 1.0, 1.0 - 2.0 * pixel.y / size.y, 0.0, 1.0);
}`;

const BLEND = `#version 300 es
precision highp float;
in vec2 place;
in vec4 color;
out vec4 layer;
void main() {
  float alpha = min(0.99, color.a * exp(-0.5 * dot(place, place)));
  if (alpha < 1.0 / 255.0) discard;
  layer = vec4(color.rgb * alpha, alpha);
}`;

const SCREEN = `#version 300 es
void main() { gl_Position = vec4(float(gl_VertexID & 1) * 4.0 - 1.0, float(gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }`;

const BEHIND = `#version 300 es
precision highp float;
uniform sampler2D layers;
uniform vec3 background;
out vec4 pixel;
void main() {
  vec4 sum = texelFetch(layers, ivec2(gl_FragCoord.xy), 0);
  pixel = vec4(sum.rgb + (1.0 - sum.a) * background, 1.0);
}`;

function compile(gl, vertex, fragment) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  const uniforms = {};
  for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); ++i) {
    const { name } = gl.getActiveUniform(program, i);
    uniforms[name] = gl.getUniformLocation(program, name);
  }
  return { program, uniforms };
}

function texture(gl, unit) {
  gl.activeTexture(gl.TEXTURE0 + unit);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
  for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
}

// A list of `count` items of `texels` texels each, whole items in every row; returns how many are in a row.
function upload(gl, unit, values, count, texels, [format, source, type]) {
  const width = Math.min(gl.getParameter(gl.MAX_TEXTURE_SIZE), 4096);
  const per_row = Math.max(1, Math.min(Math.floor(width / texels), count));
  const rows = Math.ceil(count / per_row);
  const padded = new values.constructor(4 * per_row * texels * rows);
  padded.set(values);
  gl.activeTexture(gl.TEXTURE0 + unit);
  gl.texImage2D(gl.TEXTURE_2D, 0, format, per_row * texels, rows, 0, source, type, padded);
  return per_row;
}

export function createSplats(canvas, meta, words) {
  const gl = canvas.getContext('webgl2', { alpha: false, antialias: false, depth: false, powerPreference: 'high-performance' });
  if (!gl) throw new Error('this browser has no WebGL 2, or its graphics card is switched off');
  // Sums of many thin layers need more than 8 bits; without the extension there are only 8.
  const fine = gl.getExtension('EXT_color_buffer_float') || gl.getExtension('EXT_color_buffer_half_float');
  const define = `\n#define DEGREE ${meta.degree}\n#define TEXELS ${meta.texels}\n`;
  const quads = compile(gl, QUAD.replace('\n', define), BLEND);
  const screen = compile(gl, SCREEN, BEHIND);

  texture(gl, GAUSSIANS);
  const integers = [gl.RGBA32UI, gl.RGBA_INTEGER, gl.UNSIGNED_INT];
  const gaussians_per_row = upload(gl, GAUSSIANS, words, meta.gaussians, meta.texels, integers);
  texture(gl, FRAMES);
  texture(gl, LAYERS);
  const target = gl.createFramebuffer();
  gl.bindFramebuffer(gl.FRAMEBUFFER, target);
  let frames_per_row = 0;

  const order = gl.createBuffer();
  gl.bindVertexArray(gl.createVertexArray());
  gl.bindBuffer(gl.ARRAY_BUFFER, order);
  const index = gl.getAttribLocation(quads.program, 'index');
  gl.enableVertexAttribArray(index);
  gl.vertexAttribIPointer(index, 1, gl.UNSIGNED_INT, 0, 0);
  gl.vertexAttribDivisor(index, 1);
  const nothing = gl.createVertexArray();
  const array = gl.getParameter(gl.VERTEX_ARRAY_BINDING);

  let width = 0, height = 0;
  function resize() {
    [width, height] = [canvas.width, canvas.height];
    gl.activeTexture(gl.TEXTURE0 + LAYERS);
    if (fine) gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA16F, width, height, 0, gl.RGBA, gl.HALF_FLOAT, null);
    else gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, gl.getParameter(gl.TEXTURE_BINDING_2D), 0);
  }

  // The worker's message: the order, and the frames of the triangles if they moved.
  function update(message) {
    if (message.frames) {
      const floats = [gl.RGBA32F, gl.RGBA, gl.FLOAT];
      frames_per_row = upload(gl, FRAMES, message.frames, meta.faces, FRAME_TEXELS, floats);
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, order);
    gl.bufferData(gl.ARRAY_BUFFER, message.order, gl.DYNAMIC_DRAW);
  }

  // view: rotation (9, row-major), translation (3), lens [fx, fy, cx, cy] in pixels of the canvas.
  function draw(view, background) {
    if (width !== canvas.width || height !== canvas.height) resize();
    const { rotation: r, translation: t } = view;
    gl.viewport(0, 0, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.useProgram(quads.program);
    const u = quads.uniforms;
    gl.uniform1i(u.gaussians, GAUSSIANS);
    gl.uniform1i(u.frames, FRAMES);
    gl.uniform1i(u.gaussians_per_row, gaussians_per_row);
    gl.uniform1i(u.frames_per_row, frames_per_row);
    gl.uniformMatrix3fv(u.turn, true, r);
    gl.uniform3fv(u.shift, t);
    gl.uniform3fv(u.center, [0, 1, 2].map((i) => -(r[i] * t[0] + r[3 + i] * t[1] + r[6 + i] * t[2])));
    gl.uniform4fv(u.lens, view.lens);
    gl.uniform2f(u.size, width, height);
    gl.uniform1f(u.near, meta.camera.near);
    gl.bindVertexArray(array);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, meta.gaussians);

    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.disable(gl.BLEND);
    gl.useProgram(screen.program);
    gl.uniform1i(screen.uniforms.layers, LAYERS);
    gl.uniform3fv(screen.uniforms.background, background);
    gl.bindVertexArray(nothing);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  return { update, draw };
}
