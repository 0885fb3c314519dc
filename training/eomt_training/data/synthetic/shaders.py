# SPDX-License-Identifier: MIT
"""GLSL for renderer.py. In the label pass every program writes class id / 255 and nothing else."""

_NOISE = """
float hash(vec3 p) {
    p = 17.0 * fract(p * 0.3183099 + 0.1);
    return fract(p.x * p.y * p.z * (p.x + p.y + p.z));
}
float slice(vec3 i, vec2 f) {
    float near = mix(hash(i), hash(i + vec3(1, 0, 0)), f.x);
    float far = mix(hash(i + vec3(0, 1, 0)), hash(i + vec3(1, 1, 0)), f.x);
    return mix(near, far, f.y);
}
float noise(vec3 x) {
    vec3 i = floor(x), f = fract(x);
    f = f * f * (3.0 - 2.0 * f);
    return mix(slice(i, f.xy), slice(i + vec3(0, 0, 1), f.xy), f.z);
}
float fbm(vec3 p) {
    return 0.5 * noise(p) + 0.25 * noise(p * 2.03) + 0.125 * noise(p * 4.1) + 0.0625 * noise(p * 8.2);
}
"""

_LIGHT = """
uniform vec3 eye; uniform vec3 sun; uniform vec3 sun_colour; uniform vec3 ambient;
uniform vec3 fog_colour; uniform float fog;
uniform bool label_pass;
vec3 foggy(vec3 c, vec3 world) { return mix(fog_colour, c, exp(-pow(distance(world, eye) * fog, 1.2))); }
"""

TRACK_VERTEX = """#version 330
uniform mat4 clip;
in vec3 position; in vec3 normal; in vec2 uv; in vec2 uv_shade;
out vec3 world; out vec3 n; out vec2 st; out vec2 st_shade;
void main() {
    world = position; n = normal; st = uv; st_shade = uv_shade; gl_Position = clip * vec4(position, 1.0);
}
"""

TRACK_FRAGMENT = (
    "#version 330\n"
    + _LIGHT
    + """
uniform sampler2D base; uniform sampler2D shade; uniform bool shaded; uniform vec2 labels;
in vec3 world; in vec3 n; in vec2 st; in vec2 st_shade;
out vec4 colour;
void main() {
    vec4 t = texture(base, st);
    if (t.a < 0.45) discard;
    if (label_pass) { colour = vec4(vec3(fract(st.y) < 0.5 ? labels.x : labels.y), 1.0); return; }
    vec3 m = normalize(n + vec3(0.0, 1e-4, 0.0));
    float baked = shaded ? min(1.15, 0.25 + 1.1 * texture(shade, st_shade).g) : 1.0;
    float direct = max(0.6 * abs(dot(m, sun)) + 0.4 * max(m.y, 0.0), 0.25);
    vec3 lit = ambient * (0.75 + 0.25 * m.y) + sun_colour * direct;
    colour = vec4(foggy(t.rgb * lit * baked, world), 1.0);
}
"""
)

OBJECT_VERTEX = """#version 330
uniform mat4 clip; uniform mat4 model;
in vec3 position; in vec3 normal; in vec3 colour; in vec3 surface;
out vec3 world; out vec3 local; out vec3 n; out vec3 paint; out vec3 surf;
void main() {
    vec4 w = model * vec4(position, 1.0);
    world = w.xyz; local = position; n = mat3(model) * normal; paint = colour; surf = surface;
    gl_Position = clip * w;
}
"""

OBJECT_FRAGMENT = (
    "#version 330\n"
    + _LIGHT
    + _NOISE
    + """
uniform float label;
in vec3 world; in vec3 local; in vec3 n; in vec3 paint; in vec3 surf;
out vec4 colour;
void main() {
    if (label_pass) { colour = vec4(vec3(label), 1.0); return; }
    vec3 m = normalize(n), view = normalize(eye - world);
    if (dot(m, view) < 0.0) m = -m;
    vec3 p = local * surf.x * (surf.z > 0.5 ? vec3(0.6, 6.0, 6.0) : vec3(1.0));
    float rough = 1.0 + surf.y * (2.0 * fbm(p + 11.0) - 0.95);
    float grounded = 0.6 + 0.4 * clamp(local.y / 0.35, 0.0, 1.0);
    float glint = pow(max(dot(reflect(-sun, m), view), 0.0), 24.0) * (surf.x < 2.5 ? 0.5 : 0.08);
    vec3 lit = ambient * (0.7 + 0.3 * m.y) * grounded + sun_colour * max(dot(m, sun), 0.0);
    colour = vec4(foggy(paint * rough * lit + sun_colour * glint, world), 1.0);
}
"""
)

SKY_VERTEX = """#version 330
uniform mat4 unproject;
in vec2 corner; out vec3 ray;
void main() {
    vec4 a = unproject * vec4(corner, -1.0, 1.0), b = unproject * vec4(corner, 1.0, 1.0);
    ray = b.xyz / b.w - a.xyz / a.w; gl_Position = vec4(corner, 0.0, 1.0);
}
"""

SKY_FRAGMENT = (
    "#version 330\n"
    + _LIGHT
    + _NOISE
    + """
uniform vec3 zenith; uniform float clouds; uniform float seed; uniform vec3 label_ids;
in vec3 ray; out vec4 colour;
void main() {
    vec3 d = normalize(ray);
    vec2 heading = normalize(d.xz);
    float hills = 0.005 + 0.075 * fbm(vec3(heading * 4.0, seed)) + 0.01 * fbm(vec3(heading * 60.0, seed));
    float id = d.y > hills ? label_ids.x : d.y > 0.0 ? label_ids.y : label_ids.z;
    if (label_pass) { colour = vec4(vec3(id), 1.0); return; }
    vec3 sky = mix(fog_colour, zenith, pow(clamp(d.y, 0.0, 1.0), 0.55));
    vec2 q = d.xz / (d.y + 0.12);
    float puff = 1.15 * fbm(vec3(q * 1.6, seed)) + 0.35 * fbm(vec3(q * 5.0, seed + 3.0));
    float cover = 0.85 * smoothstep(1.0 - clouds, 1.25 - clouds * 0.6, puff);
    float white = max(max(fog_colour.r, fog_colour.g), fog_colour.b);
    sky = mix(sky, mix(fog_colour, vec3(white), 0.5) * 1.05, cover);
    sky += sun_colour * 0.5 * pow(max(dot(d, sun), 0.0), 60.0);
    float woods = 0.8 + 0.4 * fbm(vec3(heading * 90.0, d.y * 60.0));
    vec3 land = vec3(0.24, 0.30, 0.20) * (ambient + 0.5 * sun_colour) * woods;
    land = mix(land, fog_colour, clamp(0.45 + fog * 250.0, 0.0, 0.97));
    colour = vec4(d.y > hills ? sky : land, 1.0);
}
"""
)

BLOB_VERTEX = """#version 330
uniform mat4 clip; uniform mat4 model;
in vec2 corner; out vec2 at;
void main() { at = corner; gl_Position = clip * model * vec4(corner.x, 0.0, corner.y, 1.0); }
"""

BLOB_FRAGMENT = """#version 330
uniform float strength;
in vec2 at; out vec4 colour;
void main() { colour = vec4(0.0, 0.0, 0.0, strength * (1.0 - smoothstep(0.35, 1.0, length(at)))); }
"""
