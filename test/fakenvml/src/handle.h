/* What the files of the library share: the meaning of handles, and the beginning and end of a call. */
#ifndef FAKENVML_HANDLE_H
#define FAKENVML_HANDLE_H

#include <stdint.h>

#include "state.h"

/* A handle is the number of a GPU and of its partition, 0 for the whole. */
#define FIRST_HANDLE 0x10000
#define PER_GPU 16

nvmlDevice_t handle(int gpu, int partition);

/* What a handle means. The state is locked until done(), whatever the result. */
nvmlReturn_t at(const char *call, nvmlDevice_t device, struct gpu **g, struct partition **p);
nvmlReturn_t done(nvmlReturn_t r);

/* Gives out a text, if there is room for it. */
nvmlReturn_t text(char *out, unsigned int size, const char *from);

/* Begins a call about a device: g is its GPU, *p its partition. A call that has no partitions passes NULL, and is NOT_SUPPORTED for one. */
#define BEGIN(call, p) \
	struct gpu *g = NULL; \
	nvmlReturn_t r = at(#call, device, &g, p); \
	if (r != NVML_SUCCESS) \
		return done(r)

#endif
