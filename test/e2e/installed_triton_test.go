//go:build machine && engines

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

const (
	tritonPackages = "/opt/triton/lib/python3.13/site-packages"
	tritonServer   = tritonPackages + "/pytriton/tritonserver"
)

// placeTriton does what pytriton does before it starts its server: the stub of this Python beside
// the backend. The libraries that the stub was linked with are of another build of Python, which
// does not find the modules of Debian's.
const placeTriton = `cp ` + tritonServer + `/python_backend_stubs/3.13/triton_python_backend_stub ` + tritonServer + `/backends/python/
	ln -s ../../../../numpy ` + tritonServer + `/backends/python/numpy
	cp -L /usr/lib/x86_64-linux-gnu/libpython3.13.so.1.0 "$(echo ` + tritonPackages + `/nvidia_pytriton.libs/libpython3-*.so.1.0)"`

// sleeper is a model that takes as many seconds as it is asked for, and reports that as an error:
// the backend was built for numpy 1, of which there is none for this Python, and cannot hand over
// an array of numpy 2.
const (
	sleeperConfig = `backend: "python"
max_batch_size: 0
input [{ name: "SECONDS" data_type: TYPE_FP32 dims: [1] }]
output [{ name: "SLEPT" data_type: TYPE_FP32 dims: [1] }]
instance_group [{ kind: KIND_CPU count: 1 }]
`
	sleeperModel = `import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            seconds = pb_utils.get_input_tensor_by_name(request, "SECONDS").as_numpy()
            time.sleep(float(seconds[0]))
            answers.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("slept as asked")))
        return answers
`
)

// TestInstalledTriton: a real Triton with a model in Python becomes ready in its sandbox, finishes
// a request in a drain, and comes back when it dies or hangs.
func TestInstalledTriton(t *testing.T) {
	env := environment(t, "/opt/triton", tritonRequirements, placeTriton)
	h := withEngine(t, env,
		machine.File{Guest: "/srv/models/repository/sleeper/config.pbtxt", Data: []byte(sleeperConfig)},
		machine.File{Guest: "/srv/models/repository/sleeper/1/model.py", Data: []byte(sleeperModel)})
	began := time.Now()
	h.pool("t", poolFile{keys: []string{`engine = "triton"`, `model = "file:/srv/models/repository"`, `devices = []`,
		`slots = 1`, `args = ["--backend-directory=` + tritonServer + `/backends"]`}}.
		table("provisioning", `binary = "`+tritonServer+`/bin/tritonserver"`).
		table("health", `interval = "2s"`, `timeout = "2s"`, `failures = 2`, `escalate_after = "5s"`).
		table("restart", `initial = "1s"`, `breaker_failures = 50`))
	h.reload()
	h.waitFor(loading, "t", isReady)
	h.took("the start of Triton", began)

	const path = "/v2/models/sleeper/infer"
	request := func(seconds string) string {
		return `{"inputs":[{"name":"SECONDS","shape":[1],"datatype":"FP32","data":[` + seconds + `]}]}`
	}
	t.Run("serves", func(t *testing.T) {
		h := h.in(t)
		h.beginRequest("t", path, request("0"))
		if got := h.answered(); !strings.Contains(got, "slept as asked") {
			t.Errorf("%s", got)
		}
	})
	t.Run("a_drain_lets_the_request_finish", func(t *testing.T) {
		h := h.in(t)
		h.beginRequest("t", path, request("8"))
		time.Sleep(2 * time.Second)
		began := time.Now()
		h.must("poolctl", "drain", "t", "--deadline", "30s", "--wait")
		if took := time.Since(began); took < 4*time.Second {
			t.Errorf("drained after %s", took)
		}
		if got := h.answered(); !strings.Contains(got, "slept as asked") {
			t.Errorf("the request was cut: %s", got)
		}
		h.must("poolctl", "resume", "t")
		h.waitFor(loading, "t", isReady)
	})
	t.Run("a_crash", func(t *testing.T) {
		h := h.in(t)
		run := h.get("t").Replicas[0].PID
		h.signal("t", "SEGV", "bin/tritonserver")
		h.waitFor(loading, "t", newRun(run))
	})
	t.Run("a_server_that_hangs", func(t *testing.T) {
		h := h.in(t)
		run, began := h.get("t").Replicas[0].PID, time.Now()
		h.signal("t", "STOP", "bin/tritonserver")
		h.waitFor(2*time.Minute, "t", failsWith("HEALTH_FAILED"))
		h.took("the discovery of a hung Triton", began)
		h.waitFor(loading, "t", newRun(run))
	})
	t.Run("a_reload_to_other_files", func(t *testing.T) {
		h := h.in(t)
		run := h.get("t").Replicas[0].PID
		h.shell("echo '# another version' >>/srv/models/repository/sleeper/1/model.py")
		ctx, cancel := h.within(loading)
		defer cancel()
		if out, err := h.Host.Run(ctx, "poolctl", "reload", "t", "--wait"); err != nil {
			t.Fatalf("%s %v", out, err)
		}
		h.waitFor(loading, "t", newRun(run))
	})
}
