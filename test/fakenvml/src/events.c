/* Events: lines that are appended to the file "events" while a process listens. What was there before is not reported, as NVML does. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handle.h"

#define TYPES (nvmlEventTypeXidCriticalError | nvmlEventTypeDoubleBitEccError | nvmlEventTypeGpuUnavailableError | nvmlEventTypeGpuRecoveryAction)

static struct {
	long read; /* bytes of the file that were reported */
	unsigned long long wanted[MAX_GPUS];
} set;

static long size_of_events(char *path, size_t room)
{
	struct stat st;

	state_path(path, room, "events");
	return stat(path, &st) ? 0 : (long)st.st_size;
}

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *out)
{
	char path[256];

	state_enter("nvmlEventSetCreate");
	memset(&set, 0, sizeof set);
	set.read = size_of_events(path, sizeof path);
	out->handle = (void *)(uintptr_t)0x20000;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t s)
{
	(void)s;
	state_enter("nvmlEventSetFree");
	memset(&set, 0, sizeof set);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types)
{
	BEGIN(nvmlDeviceGetSupportedEventTypes, NULL);
	*types = TYPES;
	return done(NVML_SUCCESS);
}

/* A partition cannot be registered: its GPU reports for it. */
nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t s)
{
	BEGIN(nvmlDeviceRegisterEvents, NULL);
	(void)s;
	if (types & ~(unsigned long long)TYPES)
		return done(NVML_ERROR_NOT_SUPPORTED);
	set.wanted[((uintptr_t)device.handle - FIRST_HANDLE) / PER_GPU] |= types;
	return done(NVML_SUCCESS);
}

static unsigned long long type_of(const char *kind)
{
	if (!strcmp(kind, "xid")) return nvmlEventTypeXidCriticalError;
	if (!strcmp(kind, "ecc")) return nvmlEventTypeDoubleBitEccError;
	if (!strcmp(kind, "unavailable")) return nvmlEventTypeGpuUnavailableError;
	if (!strcmp(kind, "recovery")) return nvmlEventTypeGpuRecoveryAction;
	return 0;
}

/* Takes one line, "KIND UUID DATA GI CI" with -1 for no instance. Whether a process wants it. */
static int take(const char *line, nvmlEventData_t *data)
{
	char kind[32], uuid[NAME];
	unsigned long long value;
	struct state *s;
	int gi, ci, i, wanted = 0;

	if (sscanf(line, "%31s %95s %llu %d %d", kind, uuid, &value, &gi, &ci) != 5)
		return 0;
	s = state_get();
	for (i = 0; i < s->ngpus; i++) {
		if (strcmp(s->gpus[i].uuid, uuid) || !(set.wanted[i] & type_of(kind)))
			continue;
		data->device = handle(i, 0);
		data->eventType = type_of(kind);
		data->eventData = value;
		data->gpuInstanceId = (unsigned int)gi;
		data->computeInstanceId = (unsigned int)ci;
		wanted = 1;
	}
	state_done();
	return wanted;
}

/* Reads on until an event that is wanted. */
static int next(nvmlEventData_t *data)
{
	char path[256], line[256];
	int found = 0;
	long size = size_of_events(path, sizeof path);
	FILE *f;

	if (size < set.read)
		set.read = 0; /* a new fake driver began a new file */
	if (size == set.read)
		return 0;
	f = fopen(path, "re");
	if (!f)
		return 0;
	fseek(f, set.read, SEEK_SET);
	while (!found && fgets(line, sizeof line, f) && strchr(line, '\n')) {
		set.read = ftell(f);
		found = take(line, data);
	}
	fclose(f);
	return found;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t s, nvmlEventData_t *data, unsigned int timeout)
{
	unsigned int waited;
	int lost = 0, i;

	(void)s;
	state_enter("nvmlEventSetWait_v2");
	for (waited = 0;; waited += 5) {
		struct state *st = state_get();

		for (i = 0, lost = 0; i < st->ngpus; i++)
			lost += st->gpus[i].problem == NVML_ERROR_GPU_IS_LOST;
		lost = lost && lost == st->ngpus;
		state_done();
		if (next(data))
			return NVML_SUCCESS;
		if (lost)
			return NVML_ERROR_GPU_IS_LOST;
		if (waited >= timeout)
			return NVML_ERROR_TIMEOUT;
		usleep(5000);
	}
}

nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t s, nvmlEventData_t *data, unsigned int timeout) { return nvmlEventSetWait_v2(s, data, timeout); }
