package engine

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// offlinePython keeps the Hugging Face libraries from waiting for a network that the unit does not
// have, and the libraries of several GPUs on the loopback interface.
func offlinePython() map[string]string {
	return map[string]string{
		"HF_HUB_OFFLINE":       "1",
		"TRANSFORMERS_OFFLINE": "1",
		"DO_NOT_TRACK":         "1",
		"NCCL_SOCKET_IFNAME":   "lo",
		"GLOO_SOCKET_IFNAME":   "lo",
	}
}

// isPython reports whether a binary is a Python interpreter, by its name.
func isPython(binary string) bool {
	return strings.HasPrefix(filepath.Base(binary), "python")
}

// needProgram refuses a Python as the binary of an engine that is started by a program of its own.
// In an image, the binary may be anything.
func needProgram(p pool.Pool, program string) []pool.Refusal {
	if p.Provisioning.Mode == pool.ModeContainer || !isPython(p.Provisioning.Binary) {
		return nil
	}
	beside := filepath.Join(filepath.Dir(p.Provisioning.Binary), program)
	return []pool.Refusal{pool.Refuse("provisioning.binary",
		fmt.Sprintf("Name its program, such as %s, or run a module as engine %q.", beside, Program),
		"provisioning.binary is a Python, and engine %q is started by %s", p.Engine, program)}
}
