// The loops for any processor.
#define RACDINO_ISA generic
#define RACDINO_VECTOR_BYTES 16
#include "inner_loops_impl.h"
