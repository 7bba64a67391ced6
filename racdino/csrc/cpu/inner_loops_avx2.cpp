// The loops for x86 processors with AVX2 and FMA (Haswell 2013, Zen 2017 and later).
#include "inner_loops.h"
#ifdef RACDINO_X86_VARIANTS
#pragma GCC target("avx2,fma")
#define RACDINO_ISA avx2
#define RACDINO_VECTOR_BYTES 32
#include "inner_loops_impl.h"
#endif
