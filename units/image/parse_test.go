package image

import (
	"reflect"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// FuzzParse: whatever the file of an image has, its texts can be words of a unit, or there is none
// of it; what was read is the same after it was written.
func FuzzParse(f *testing.F) {
	const digest = `"digest":"sha256:` + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" + `"`
	f.Add([]byte(`{"format":1,` + digest + `,"ref":"docker:acme/llama","architecture":"amd64",` +
		`"entrypoint":["/llama-server"],"cmd":["-m"],"env":["PATH=/bin","=x","A"],"working_dir":"/app","bytes":7}`))
	f.Add([]byte(`{"format":1,` + digest + `,"env":["A=\u0000"]}`))
	f.Add([]byte(`{"format":1,` + digest + `,"cmd":["\ud800"],"bytes":-1}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`[`))
	f.Fuzz(mutate.Many(func(t *testing.T, data []byte) {
		i, err := parse(data)
		if err != nil {
			if !reflect.DeepEqual(i, Info{}) {
				t.Errorf("%v, and yet %+v", err, i)
			}
			return
		}
		for _, list := range [][]string{i.Entrypoint, i.Cmd, i.Env, {i.WorkingDir, i.Ref}} {
			for _, text := range list {
				if strings.ContainsRune(text, 0) || len(text) > mostText {
					t.Errorf("%.40q", text)
				}
			}
		}
		for name := range i.Variables() {
			if name == "" || strings.Contains(name, "=") {
				t.Errorf("a variable %q", name)
			}
		}
		text, err := i.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(text)
		if err != nil || !reflect.DeepEqual(again.Variables(), i.Variables()) || again.Digest != i.Digest {
			t.Errorf("%+v, and after it was written %+v (%v)", i, again, err)
		}
	}))
}
