package host

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// Where the fake driver is in a machine until a test loads it.
const (
	fakeDriver  = "/usr/local/bin/fakegpu"
	fakeLibrary = "/usr/local/share/fakegpu/libnvidia-ml.so.1"
	driverUnit  = "test-fakegpu.service"

	// Engines have an empty /run. A real driver is reached by device nodes, this one by a socket.
	driverInside = "/run/systemd/system/pool-engine@.service.d/50-fakegpu.conf"
)

// HelperUnit is the GPU helper's.
const HelperUnit = "pool-gpu.service"

// LoadGPUs gives the machine GPUs that do not exist: the fake driver is started with these
// arguments ("--gpus 2 --vram 8589934592"), its library is where programs look for it, and there
// are device nodes with the driver's major number 195 where the machine lets them be made. Reset
// unloads it.
func (h *Host) LoadGPUs(ctx context.Context, args string) error {
	_, err := h.Shell(ctx, `
		cp `+fakeLibrary+` "$(dirname "$(find /usr/lib -name libc.so.6 | head -1)")/libnvidia-ml.so.1"
		for i in 0 1 2 3; do [ -e /dev/nvidia$i ] || mknod -m 666 /dev/nvidia$i c 195 $i || true; done 2>/dev/null
		[ -e /dev/nvidiactl ] || mknod -m 666 /dev/nvidiactl c 195 255 2>/dev/null || true
		[ -e /dev/nvidia-uvm ] || mknod -m 666 /dev/nvidia-uvm c 511 0 2>/dev/null || true
		[ -e /dev/nvidia-uvm-tools ] || mknod -m 666 /dev/nvidia-uvm-tools c 511 1 2>/dev/null || true
		mkdir -p "$(dirname `+driverInside+`)"; printf '[Service]\nBindPaths=-/run/fakegpu\n' >`+driverInside+`
		systemctl daemon-reload
		systemd-run --quiet --collect --unit=`+driverUnit+` `+fakeDriver+` serve `+args+`
		for i in $(seq 100); do [ -e /run/fakegpu/ctl.sock ] && break; sleep 0.05; done
		systemctl stop `+HelperUnit)
	return err
}

// unloadGPUs is what Reset does about them.
const unloadGPUs = `
		find /usr/lib -name libnvidia-ml.so.1 -delete
		systemctl stop ` + driverUnit + ` 2>/dev/null || true
		systemctl stop ` + HelperUnit + ` || true
		rm -rf /run/fakegpu
		[ ! -e ` + driverInside + ` ] || { rm ` + driverInside + `; systemctl daemon-reload; }`

// GPU has the fake driver do something, for example "xid 0 79"; the commands are in
// test/fakegpu/commands.go.
func (h *Host) GPU(ctx context.Context, command string) (string, error) {
	return h.Run(ctx, append([]string{fakeDriver, "ctl"}, strings.Fields(command)...)...)
}

// Device is one GPU of GET /v1/devices.
type Device struct {
	UUID       string       `json:"uuid"`
	Index      int          `json:"index"`
	Health     string       `json:"health"`
	VRAMTotal  *uint64      `json:"vram_total_bytes"`
	VRAMFree   *uint64      `json:"vram_free_bytes"`
	LastError  string       `json:"last_error"`
	Pools      []string     `json:"pools"`
	Processes  []GPUProcess `json:"processes"`
	Partitions []struct {
		UUID    string   `json:"uuid"`
		Profile string   `json:"profile"`
		Pools   []string `json:"pools"`
	} `json:"partitions"`
}

// GPUProcess is a process that holds memory of a GPU.
type GPUProcess struct {
	PID     int     `json:"pid"`
	Pool    string  `json:"pool_id"`
	Replica string  `json:"replica_id"`
	Used    *uint64 `json:"vram_used_bytes"`
}

// Devices is the answer of GET /v1/devices.
type Devices struct {
	Driver struct {
		Version string `json:"version"`
		Problem string `json:"problem"`
	} `json:"driver"`
	Stale *struct {
		LastError string `json:"last_error"`
	} `json:"stale"`
	Devices []Device `json:"devices"`
}

// Devices asks for the GPUs.
func (h *Host) Devices(ctx context.Context) (d Devices, err error) {
	a, err := h.Get(ctx, "/v1/devices")
	if err != nil {
		return d, err
	}
	if a.Status != 200 {
		return d, fmt.Errorf("GET /v1/devices: %d %s", a.Status, a.Body)
	}
	return d, json.Unmarshal(a.Body, &d)
}
