/* Memory, and the processes that hold it. */
#include <string.h>

#include "handle.h"

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
	if (g->list > 1)
		return done(g->list);
	list = p ? p->processes : g->processes;
	n = g->list ? 0 : p ? p->nprocesses : g->nprocesses;
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
#endif
