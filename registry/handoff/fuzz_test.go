package handoff

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// FuzzHolds: a file that a former manager, or another program, left in the folder. It counts as
// there whatever it holds, and as one of ours only where it can be read.
func FuzzHolds(f *testing.F) {
	f.Add([]byte(`{"url":"http://127.0.0.1:21000","pool_id":"a","replica_id":"r0","pid":17}`))
	f.Add([]byte(`{"pool_id":7}`))
	f.Add([]byte(`null`))
	f.Add([]byte(``))
	f.Fuzz(mutate.Many(func(t *testing.T, body []byte) {
		k := &kept{}
		k.holds(body)
		if string(k.have) != string(body) {
			t.Errorf("%q is held as %q", body, k.have)
		}
		k.want = body
		if !k.asWanted() {
			t.Errorf("%q is not what was wanted", body)
		}
		k.holds(nil)
		if k.file != nil || k.have != nil {
			t.Errorf("after its removal %+v is held", k)
		}
	}))
}
