package driver

import (
	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// needed are the functions that are always required. One of each row suffices: go-nvml takes the
// newest that it finds, and the first version, which has no suffix, without a lookup.
var needed = [][]string{
	{"nvmlInit_v2", "nvmlInit"},
	{"nvmlShutdown"},
	{"nvmlErrorString"},
	{"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"},
	{"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"},
	{"nvmlDeviceGetUUID"},
	{"nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo"},
}

// versions are the names under which go-nvml reaches a function that has several, the newest first.
// go-nvml falls back by itself, so only a library with none of them lacks the call.
var versions = map[string][]string{
	"nvmlDeviceGetComputeRunningProcesses_v3":    {"nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses"},
	"nvmlDeviceGetGraphicsRunningProcesses_v3":   {"nvmlDeviceGetGraphicsRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses"},
	"nvmlDeviceGetMPSComputeRunningProcesses_v3": {"nvmlDeviceGetMPSComputeRunningProcesses_v2", "nvmlDeviceGetMPSComputeRunningProcesses"},
	"nvmlDeviceGetAttributes_v2":                 {"nvmlDeviceGetAttributes"},
	"nvmlEventSetWait_v2":                        {"nvmlEventSetWait"},
}

// has reports whether the library has a function.
func (d *Driver) has(name string) bool {
	found, looked := d.known[name]
	if !looked {
		found = d.library != nil && d.library.Lookup(name) == nil
		d.known[name] = found
	}
	return found
}

// can reports whether a function may be called, under this or an older name, and records a missing
// one.
func (d *Driver) can(name string) bool {
	if d.has(name) {
		return true
	}
	for _, older := range versions[name] {
		if d.has(older) {
			return true
		}
	}
	d.missing[name] = true
	return false
}

// ask makes one call if the library has the function. FUNCTION_NOT_FOUND, which an old driver
// returns too, counts as missing.
func ask[T any](d *Driver, name string, f func() (T, gonvml.Return)) (T, gonvml.Return) {
	var zero T
	if !d.can(name) {
		return zero, gonvml.ERROR_FUNCTION_NOT_FOUND
	}
	d.enter(name)
	value, ret := f()
	d.leave()
	if ret == gonvml.ERROR_FUNCTION_NOT_FOUND {
		d.missing[name] = true
	}
	return value, ret
}
