// The loops for x86 processors with AVX-512 (Skylake-SP 2017, Zen 4 2022 and later).
#include "inner_loops.h"
#ifdef RACDINO_X86_VARIANTS
#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw,prefer-vector-width=512")
#define RACDINO_ISA avx512
#define RACDINO_VECTOR_BYTES 64
#include "inner_loops_impl.h"
#endif
