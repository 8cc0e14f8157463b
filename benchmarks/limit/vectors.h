// A vector of as many floats as the processor has lanes, and the few operations that compositing needs.
// AVX-512 by intrinsics, because its masks live in registers of their own; AVX2, NEON and everything else by the
// compiler's vector extensions. The compiler chooses by -march=native.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
constexpr int LANES = 16;
using Mask = __mmask16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float F __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))

INLINE F all(float value) { return F{} + value; }

INLINE F load(const float* from) {
    F v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

INLINE void store(float* to, F v) { std::memcpy(to, &v, sizeof v); }

#if defined(__AVX512F__) && defined(__AVX512DQ__)

INLINE Mask at_least(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
INLINE Mask below(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
INLINE Mask both(Mask a, Mask b) { return _kand_mask16(a, b); }
INLINE bool any(Mask m) { return !_kortestz_mask16_u8(m, m); }
INLINE F only(Mask m, F a) { return _mm512_maskz_mov_ps(m, a); }  // 0 elsewhere
INLINE F least(F a, F b) { return _mm512_min_ps(a, b); }
INLINE F inverse(F a) {
    F guess = _mm512_rcp14_ps(a);
    return guess * (2.0f - a * guess);
}

#else

using Mask = I;
INLINE Mask at_least(F a, F b) { return a >= b; }
INLINE Mask below(F a, F b) { return a < b; }
INLINE Mask both(Mask a, Mask b) { return a & b; }
INLINE bool any(Mask m) {
    int32_t found = 0;
    for (int i = 0; i < LANES; i++) found |= m[i];
    return found != 0;
}
INLINE F only(Mask m, F a) { return (F)(m & (I)a); }
INLINE F least(F a, F b) { return a < b ? a : b; }
INLINE F inverse(F a) { return 1.0f / a; }

#endif

constexpr int source_lane(int out, int group, bool far) {
    int k = out % (LANES / 2);
    return (k / group) * 2 * group + k % group + (far ? group : 0) + (out >= LANES / 2 ? LANES : 0);
}

template <int GROUP, bool FAR, std::size_t... I>
INLINE F picked(F a, F b, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b, source_lane(I, GROUP, FAR)...);
}

// Adds neighbouring groups of GROUP lanes of a, and of b: a's sums are the lower half of the result, b's the upper.
template <int GROUP>
INLINE F halve(F a, F b) {
    auto lanes = std::make_index_sequence<LANES>{};
    return picked<GROUP, false>(a, b, lanes) + picked<GROUP, true>(a, b, lanes);
}

// Lane i of the result: the sum over the lanes of v[i]. COUNT vectors, those up to LANES count as 0.
template <int COUNT, int GROUP = LANES / 2>
INLINE F lane_sums(const F* v) {
    if constexpr (GROUP == 0) {
        return v[0];
    } else {
        constexpr int LEFT = (COUNT + 1) / 2;
        F next[LEFT];
        for (int i = 0; i < LEFT; i++) next[i] = halve<GROUP>(v[2 * i], 2 * i + 1 < COUNT ? v[2 * i + 1] : v[2 * i]);
        return lane_sums<LEFT, GROUP / 2>(next);
    }
}
