/*
 * A fake libnvidia-ml.so.1: the calls that pool-gpu makes, answered from the state of the fake driver. It stands for hardware that tests
 * cannot have, is written from the declarations of NVML's public header, and imitates what was seen of the real one: a lost GPU stays
 * lost, NOT_SUPPORTED is told apart from zero, and a library whose driver was replaced says so until the process ends.
 *
 * FAKENVML_OLD leaves out what drivers before 470 lack.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "state.h"

static int initialised, generation;

/* A handle is the number of a GPU and of its partition, 0 for the whole. */
static nvmlDevice_t handle(int gpu, int partition)
{
	nvmlDevice_t d;

	d.handle = (void *)(uintptr_t)(0x10000 + gpu * 16 + partition);
	return d;
}

/* What a handle means. The state is locked until done(), whatever the result. */
static nvmlReturn_t at(const char *call, nvmlDevice_t device, struct gpu **g, struct partition **p)
{
	uintptr_t n = (uintptr_t)device.handle - 0x10000;
	struct state *s;

	state_hang(call);
	s = state_get();
	if (!initialised)
		return NVML_ERROR_UNINITIALIZED;
	if (s->generation != generation)
		return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
	if (n / 16 >= (uintptr_t)s->ngpus)
		return NVML_ERROR_INVALID_ARGUMENT;
	*g = &s->gpus[n / 16];
	if (p)
		*p = NULL;
	if (n % 16) {
		if (!p)
			return NVML_ERROR_NOT_SUPPORTED;
		if (n % 16 > (uintptr_t)(*g)->npartitions)
			return NVML_ERROR_INVALID_ARGUMENT;
		*p = &(*g)->partitions[n % 16 - 1];
	}
	return (*g)->problem ? (nvmlReturn_t)(*g)->problem : NVML_SUCCESS;
}

static nvmlReturn_t done(nvmlReturn_t r)
{
	state_done();
	return r;
}

static nvmlReturn_t text(char *out, unsigned int size, const char *from)
{
	if (strlen(from) + 1 > size)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	strcpy(out, from);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlInit_v2(void)
{
	struct state *s;

	state_hang("nvmlInit_v2");
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

	state_hang(call);
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
	*version = state_get()->cuda;
	return done(NVML_SUCCESS);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
	struct state *s;

	state_hang("nvmlDeviceGetCount_v2");
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

	state_hang("nvmlDeviceGetHandleByIndex_v2");
	s = state_get();
	if (!initialised)
		r = NVML_ERROR_UNINITIALIZED;
	else if (index >= (unsigned int)s->ngpus)
		r = NVML_ERROR_INVALID_ARGUMENT;
	else if (s->gpus[index].problem == NVML_ERROR_GPU_IS_LOST)
		r = NVML_ERROR_GPU_IS_LOST; /* a real one gives no handle for it either */
	else
		*device = handle((int)index, 0);
	return done(r);
}

#define BEGIN(call, p) \
	struct gpu *g = NULL; \
	nvmlReturn_t r = at(#call, device, &g, p); \
	if (r != NVML_SUCCESS) \
		return done(r)

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
	struct partition *p;
	BEGIN(nvmlDeviceGetUUID, &p);
	return done(text(uuid, length, p ? p->uuid : g->uuid));
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
	struct partition *p;
	char full[2 * NAME + 8];
	BEGIN(nvmlDeviceGetName, &p);
	snprintf(full, sizeof full, p ? "%s MIG %s" : "%s", g->name, p ? p->profile : "");
	return done(text(name, length, full));
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	BEGIN(nvmlDeviceGetPciInfo_v3, NULL);
	memset(pci, 0, sizeof *pci);
	sscanf(g->pci, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
	snprintf(pci->busId, sizeof pci->busId, NVML_DEVICE_PCI_BUS_ID_FMT, pci->domain, pci->bus, pci->device);
	snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, NVML_DEVICE_PCI_BUS_ID_LEGACY_FMT, pci->domain & 0xffff, pci->bus, pci->device);
	return done(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor)
{
	BEGIN(nvmlDeviceGetMinorNumber, NULL);
	*minor = (unsigned int)g->minor;
	return done(g->minor < 0 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
	BEGIN(nvmlDeviceGetCudaComputeCapability, NULL);
	*major = g->major_cc;
	*minor = g->minor_cc;
	return done(g->major_cc < 0 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *u)
{
	BEGIN(nvmlDeviceGetUtilizationRates, NULL);
	u->gpu = (unsigned int)g->utilization;
	u->memory = 0;
	return done(g->utilization < 0 || g->mig == 1 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *t)
{
	BEGIN(nvmlDeviceGetTemperature, NULL);
	(void)sensor;
	*t = (unsigned int)g->temperature;
	return done(g->temperature < 0 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t device, nvmlPstates_t *state)
{
	BEGIN(nvmlDeviceGetPerformanceState, NULL);
	*state = (nvmlPstates_t)g->pstate;
	return done(g->pstate < 0 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts)
{
	BEGIN(nvmlDeviceGetPowerUsage, NULL);
	*milliwatts = (unsigned int)g->power;
	return done(g->power < 0 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *current, nvmlEnableState_t *pending)
{
	BEGIN(nvmlDeviceGetEccMode, NULL);
	*current = *pending = g->ecc == 1 ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
	return done(g->ecc < 0 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter, unsigned long long *count)
{
	BEGIN(nvmlDeviceGetTotalEccErrors, NULL);
	(void)counter;
	*count = type == NVML_MEMORY_ERROR_TYPE_CORRECTED ? g->corrected : g->uncorrected;
	return done(g->ecc != 1 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
	BEGIN(nvmlDeviceGetMigMode, NULL);
	*current = *pending = g->mig == 1;
	return done(g->mig < 0 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count)
{
	BEGIN(nvmlDeviceGetMaxMigDeviceCount, NULL);
	*count = g->mig < 0 ? 0 : MAX_PARTITIONS;
	return done(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *mig)
{
	BEGIN(nvmlDeviceGetMigDeviceHandleByIndex, NULL);
	if (g->mig != 1 || index >= (unsigned int)g->npartitions)
		return done(NVML_ERROR_NOT_FOUND);
	*mig = handle((int)(((uintptr_t)device.handle - 0x10000) / 16), (int)index + 1);
	return done(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id)
{
	struct partition *p;
	BEGIN(nvmlDeviceGetGpuInstanceId, &p);
	if (p)
		*id = p->gi;
	return done(p ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED);
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id)
{
	struct partition *p;
	BEGIN(nvmlDeviceGetComputeInstanceId, &p);
	if (p)
		*id = p->ci;
	return done(p ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED);
}

static unsigned long long used(struct process *list, int n)
{
	unsigned long long sum = 0;
	int i;

	for (i = 0; i < n; i++)
		sum += list[i].used;
	return sum;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *m)
{
	struct partition *p;
	BEGIN(nvmlDeviceGetMemoryInfo, &p);
	m->total = p ? p->total : g->total;
	m->used = p ? used(p->processes, p->nprocesses) : g->reserved + used(g->processes, g->nprocesses);
	m->free = m->total > m->used ? m->total - m->used : 0;
	return done(NVML_SUCCESS);
}

static nvmlReturn_t processes(const char *call, nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *out)
{
	struct gpu *g = NULL;
	struct partition *p;
	nvmlReturn_t r = at(call, device, &g, &p);
	struct process *list;
	int i, n;

	if (r != NVML_SUCCESS)
		return done(r);
	list = p ? p->processes : g->processes;
	n = p ? p->nprocesses : g->nprocesses;
	if (*count < (unsigned int)n) {
		*count = (unsigned int)n;
		return done(NVML_ERROR_INSUFFICIENT_SIZE);
	}
	for (i = 0; i < n; i++) {
		memset(&out[i], 0, sizeof out[i]);
		out[i].pid = list[i].pid;
		out[i].usedGpuMemory = list[i].used;
		out[i].gpuInstanceId = p ? p->gi : 0xFFFFFFFF;
		out[i].computeInstanceId = p ? p->ci : 0xFFFFFFFF;
	}
	*count = (unsigned int)n;
	return done(NVML_SUCCESS);
}

/* The kinds of processes that no engine of a test is. */
static nvmlReturn_t no_processes(const char *call, nvmlDevice_t device, unsigned int *count)
{
	struct gpu *g = NULL;
	struct partition *p;
	nvmlReturn_t r = at(call, device, &g, &p);

	*count = 0;
	return done(r);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *out)
{
	nvmlProcessInfo_t full[MAX_PROCESSES];
	unsigned int n = MAX_PROCESSES, i;
	nvmlReturn_t r = processes("nvmlDeviceGetComputeRunningProcesses", device, &n, full);

	if (r != NVML_SUCCESS)
		return r;
	if (*count < n) {
		*count = n;
		return NVML_ERROR_INSUFFICIENT_SIZE;
	}
	for (i = 0; i < n; i++) {
		out[i].pid = full[i].pid;
		out[i].usedGpuMemory = full[i].usedGpuMemory;
	}
	*count = n;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *out)
{
	(void)out;
	return no_processes("nvmlDeviceGetGraphicsRunningProcesses", device, count);
}

#ifndef FAKENVML_OLD
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *m)
{
	struct partition *p;
	BEGIN(nvmlDeviceGetMemoryInfo_v2, &p);
	if (m->version != nvmlMemory_v2)
		return done(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
	m->total = p ? p->total : g->total;
	m->reserved = p ? 0 : g->reserved;
	m->used = p ? used(p->processes, p->nprocesses) : used(g->processes, g->nprocesses);
	m->free = m->total > m->used + m->reserved ? m->total - m->used - m->reserved : 0;
	return done(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *out)
{
	return processes("nvmlDeviceGetComputeRunningProcesses_v3", device, count, out);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *out)
{
	(void)out;
	return no_processes("nvmlDeviceGetGraphicsRunningProcesses_v3", device, count);
}

nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *out)
{
	(void)out;
	return no_processes("nvmlDeviceGetMPSComputeRunningProcesses_v3", device, count);
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrected, unsigned int *uncorrected, unsigned int *pending, unsigned int *failed)
{
	BEGIN(nvmlDeviceGetRemappedRows, NULL);
	*corrected = g->remap_corrected;
	*uncorrected = g->remap_uncorrected;
	*pending = g->remap_pending;
	*failed = g->remap_failed;
	return done(g->remap < 0 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *a)
{
	struct partition *p;
	BEGIN(nvmlDeviceGetAttributes_v2, &p);
	if (!p)
		return done(NVML_ERROR_NOT_SUPPORTED);
	memset(a, 0, sizeof *a);
	a->gpuInstanceSliceCount = a->computeInstanceSliceCount = p->slices;
	a->memorySizeMB = p->total >> 20;
	return done(NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
	int i;
	BEGIN(nvmlDeviceGetFieldValues, NULL);
	for (i = 0; i < count; i++) {
		values[i].nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
		if (values[i].fieldId == NVML_FI_DEV_GET_GPU_RECOVERY_ACTION && g->recovery >= 0) {
			values[i].nvmlReturn = NVML_SUCCESS;
			values[i].valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
			values[i].value.uiVal = (unsigned int)g->recovery;
		}
	}
	return done(NVML_SUCCESS);
}
#endif
