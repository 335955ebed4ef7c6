/* What a GPU reports of itself, and how it is cut into partitions. */
#include <stdio.h>
#include <string.h>

#include "handle.h"

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
	*mig = handle((int)(((uintptr_t)device.handle - FIRST_HANDLE) / PER_GPU), (int)index + 1);
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

#ifndef FAKENVML_OLD
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
