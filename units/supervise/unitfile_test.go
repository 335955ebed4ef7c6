package supervise

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestUnitFileOfGPUs: the unit of a pool with GPUs can be shown before it is prepared, as soon as
// its GPUs are known; before, the answer names what is missing.
func TestUnitFileOfGPUs(t *testing.T) {
	scenario(t, "before_they_are_known", func(t *testing.T, w *world) {
		m := w.manage(t, pools(onGPU("a", "0")), withGPUs(twoGPUs()))
		_, err := m.s.RenderUnit(t.Context(), "a")
		var f *registry.Failure
		if !errors.As(err, &f) || f.Code != registry.CodeGPUUnavailable || f.Hint == "" {
			t.Errorf("error %v", err)
		}
	})
	scenario(t, "before_the_model_is_there", func(t *testing.T, w *world) {
		h := twoGPUs()
		w.stageHangs = true
		m := w.manage(t, pools(onGPU("a", "0")), withGPUs(h))
		h.tell()
		time.Sleep(time.Second)
		text, err := m.s.RenderUnit(t.Context(), "a")
		if err != nil || !strings.Contains(text, "CUDA_VISIBLE_DEVICES="+gpu(0)) ||
			!strings.Contains(text, "DeviceAllow=/dev/nvidia0") {
			t.Errorf("%v:\n%s", err, text)
		}
	})
}
