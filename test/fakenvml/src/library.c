/*
 * A fake libnvidia-ml.so.1: the calls that pool-gpu makes, answered from the state of the fake driver. It stands for hardware that tests
 * cannot have, is written from the declarations of NVML's public header, and imitates what was seen of the real one: a lost GPU stays
 * lost, NOT_SUPPORTED is not zero, and a library whose driver was replaced says so until the process ends.
 *
 * FAKENVML_OLD leaves out what drivers before 470 lack.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "handle.h"

static int initialised, generation;

nvmlDevice_t handle(int gpu, int partition)
{
	nvmlDevice_t d;

	d.handle = (void *)(uintptr_t)(FIRST_HANDLE + gpu * PER_GPU + partition);
	return d;
}

nvmlReturn_t at(const char *call, nvmlDevice_t device, struct gpu **g, struct partition **p)
{
	uintptr_t n = (uintptr_t)device.handle - FIRST_HANDLE;
	struct state *s;

	state_enter(call);
	s = state_get();
	if (!initialised)
		return NVML_ERROR_UNINITIALIZED;
	if (s->generation != generation)
		return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
	if (n / PER_GPU >= (uintptr_t)s->ngpus)
		return NVML_ERROR_INVALID_ARGUMENT;
	*g = &s->gpus[n / PER_GPU];
	if (p)
		*p = NULL;
	if (n % PER_GPU) {
		if (!p)
			return NVML_ERROR_NOT_SUPPORTED;
		if (n % PER_GPU > (uintptr_t)(*g)->npartitions)
			return NVML_ERROR_INVALID_ARGUMENT;
		*p = &(*g)->partitions[n % PER_GPU - 1];
	}
	return (*g)->problem ? (nvmlReturn_t)(*g)->problem : NVML_SUCCESS;
}

nvmlReturn_t done(nvmlReturn_t r)
{
	state_done();
	return r;
}

nvmlReturn_t text(char *out, unsigned int size, const char *from)
{
	if (strlen(from) + 1 > size)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	strcpy(out, from);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlInit_v2(void)
{
	struct state *s;

	state_enter("nvmlInit_v2");
	s = state_get();
	if (s->init)
		return done((nvmlReturn_t)s->init);
	/* The first successful call ties the process to the driver of that moment. */
	if (!generation)
		generation = s->generation;
	if (s->generation != generation)
		return done(NVML_ERROR_LIB_RM_VERSION_MISMATCH);
	initialised++;
	return done(NVML_SUCCESS);
}

nvmlReturn_t nvmlInit(void) { return nvmlInit_v2(); }

nvmlReturn_t nvmlShutdown(void)
{
	state_enter("nvmlShutdown");
	if (!initialised)
		return NVML_ERROR_UNINITIALIZED;
	initialised--;
	return NVML_SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t r)
{
	switch (r) {
	case NVML_SUCCESS: return "Success";
	case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
	case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
	case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
	case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
	case NVML_ERROR_TIMEOUT: return "Timeout";
	case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
	case NVML_ERROR_RESET_REQUIRED: return "GPU requires reset";
	case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
	default: return "Unknown Error";
	}
}

static nvmlReturn_t host_text(const char *call, char *out, unsigned int size, int library)
{
	struct state *s;

	state_enter(call);
	s = state_get();
	if (!initialised)
		return done(NVML_ERROR_UNINITIALIZED);
	if (s->generation != generation)
		return done(NVML_ERROR_LIB_RM_VERSION_MISMATCH);
	return done(text(out, size, library ? s->library : s->driver));
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) { return host_text("nvmlSystemGetDriverVersion", version, length, 0); }
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length) { return host_text("nvmlSystemGetNVMLVersion", version, length, 1); }

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
	state_enter("nvmlSystemGetCudaDriverVersion_v2");
	*version = state_get()->cuda;
	return done(NVML_SUCCESS);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
	struct state *s;

	state_enter("nvmlDeviceGetCount_v2");
	s = state_get();
	if (!initialised)
		return done(NVML_ERROR_UNINITIALIZED);
	if (s->generation != generation)
		return done(NVML_ERROR_LIB_RM_VERSION_MISMATCH);
	*count = (unsigned int)s->ngpus;
	return done(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
	struct state *s;
	nvmlReturn_t r = NVML_SUCCESS;

	state_enter("nvmlDeviceGetHandleByIndex_v2");
	s = state_get();
	if (!initialised)
		r = NVML_ERROR_UNINITIALIZED;
	else if (s->generation != generation)
		r = NVML_ERROR_LIB_RM_VERSION_MISMATCH;
	else if (index >= (unsigned int)s->ngpus)
		r = NVML_ERROR_INVALID_ARGUMENT;
	else if (s->gpus[index].problem == NVML_ERROR_GPU_IS_LOST)
		r = NVML_ERROR_GPU_IS_LOST; /* a real one gives no handle for it either */
	else
		*device = handle((int)index, 0);
	return done(r);
}
