package record

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// schemaFile describes the values for those who read them with programs of their own.
const schemaFile = "../../../docs/fleet.schema.json"

func described(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(schemaFile + "#/$defs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func samples(t *testing.T) (Host, Pool) {
	t.Helper()
	total := uint64(80 << 30)
	h := HostOf(fleet.Host{MachineID: strings.Repeat("0a", 16), BootID: "b", Name: "gpu1", Address: "https://a:9200"},
		wire.DeviceList{Driver: wire.Driver{Version: "580.65"}, Devices: []wire.GPUDevice{
			{Index: 0, Name: "H100", ComputeCapability: "9.0", VRAM: wire.VRAM{TotalBytes: &total}}, {Index: 1}}})
	h.Started = "2026-11-27T12:00:00Z"
	return h, PoolOf(llama())
}

func llama() *wire.Pool {
	known := registrytest.Llama()
	p := wire.PoolOf(&known)
	return &p
}

// TestDescribed: values are as the page's schema has them, and it describes every field.
func TestDescribed(t *testing.T) {
	h, p := samples(t)
	for name, content := range map[string][]byte{"host": Encode(h), "pool": Encode(p),
		"pool ": Encode(PoolOf(&wire.Pool{}))} {
		name = strings.TrimSpace(name)
		var value map[string]any
		if err := json.Unmarshal(content, &value); err != nil {
			t.Fatal(err)
		}
		if err := described(t, name).Validate(value); err != nil {
			t.Errorf("%s\n%v", content, err)
		}
		if strings.Contains(string(content), "null") {
			t.Errorf("null in %s", content)
		}
	}
	content, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs map[string]struct {
			Properties map[string]any
		} `json:"$defs"`
	}
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]any{"host": h, "gpu": h.GPUs[0], "pool": p, "replica": p.Replicas[0],
		"models": Models{Models: []Model{{}}}, "model": Model{}} {
		if diff := cmp.Diff(fieldsOf(t, value), keysOf(schema.Defs[name].Properties)); diff != "" {
			t.Errorf("%s (-values +schema)\n%s", name, diff)
		}
	}
}

func fieldsOf(t *testing.T, value any) []string {
	t.Helper()
	content, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(content, &fields); err != nil {
		t.Fatal(err)
	}
	return keysOf(fields)
}

func keysOf(m map[string]any) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// TestChanges: what a heartbeat changes is no change, and what each request changes is not one of
// availability.
func TestChanges(t *testing.T) {
	w := llama()
	before := PoolOf(w)
	beat, free := int64(7), uint64(1<<30)
	w.LastHeartbeatMS, w.VRAMFreeBytes, w.BackoffMS, w.Replicas[0].LastHeartbeatMS = &beat, &free, 12, &beat
	if diff := cmp.Diff(before, PoolOf(w)); diff != "" {
		t.Errorf("a heartbeat is a change:\n%s", diff)
	}
	w.SlotsFree, w.ActiveLeases, w.Replicas[0].SlotsFree, w.Replicas[0].ActiveLeases = 91, 92, 93, 94
	used := PoolOf(w)
	if cmp.Equal(before, used) || before.Availability() != used.Availability() ||
		!cmp.Equal(before.WithoutUse(), used.WithoutUse()) {
		t.Error("use of slots is not a change of slots alone")
	}
	if before.Replicas[0].SlotsFree == 93 {
		t.Error("a record changed that was made before")
	}
	w.Replicas[0].Ready = !w.Replicas[0].Ready
	if PoolOf(w).Availability() == used.Availability() {
		t.Error("a replica's readiness is not a change of availability")
	}
}

// TestBounds: a text that an engine made has a bound, and stays UTF-8.
func TestBounds(t *testing.T) {
	long := strings.Repeat("é", 4000)
	p := PoolOf(&wire.Pool{LastError: &long})
	if len(p.LastError) > textLimit+len("…") || !utf8.ValidString(p.LastError) || !strings.HasSuffix(p.LastError, "…") {
		t.Errorf("%d bytes", len(p.LastError))
	}
}

// TestParse: a key leads back to what it is about, and no other text does.
func TestParse(t *testing.T) {
	k := Below("/fleet/")
	for _, c := range []struct {
		key           string
		kind          Kind
		machine, rest string
	}{
		{k.Host("m"), KindHost, "m", ""},
		{k.Pool("m", "llama3"), KindPool, "m", "llama3"},
		{k.Conflict("m", "b"), KindConflict, "m", "b"},
		{k.Models("m"), KindModels, "m", ""},
		{k.Pools("m"), 0, "", ""},
		{k.All(), 0, "", ""},
		{"/fleet", 0, "", ""},
		{"/fleets/hosts/m", 0, "", ""},
		{"/fleet/hosts/", 0, "", ""},
		{"/fleet/hosts/m/x", 0, "", ""},
		{"/fleet/hosts/m/", 0, "", ""},
		{"/fleet/pools/m", 0, "", ""},
		{"/fleet/pools/m/x/y", 0, "", ""},
		{"/fleet/pools//x", 0, "", ""},
		{"/fleet/models/m/x", 0, "", ""},
		{"", 0, "", ""},
	} {
		if kind, machine, rest := k.Parse(c.key); kind != c.kind || machine != c.machine || rest != c.rest {
			t.Errorf("%q: %d %q %q", c.key, kind, machine, rest)
		}
	}
}

func FuzzDecodePool(f *testing.F) {
	f.Add(Encode(PoolOf(llama())))
	f.Add([]byte(`{"schema":2,"id":"x"}`))
	f.Add([]byte(`{"schema":1,"slots_free":1.5}`))
	f.Add([]byte(`null`))
	f.Fuzz(mutate.Many(func(t *testing.T, content []byte) {
		p, err := DecodePool(content)
		if (err == nil) != (p.Schema == Schema) {
			t.Fatalf("%+v, %v", p, err)
		}
		if err == nil {
			if again, err := DecodePool(Encode(p)); err != nil || again.ID != p.ID {
				t.Fatalf("%+v, %v", again, err)
			}
		}
	}))
}

func FuzzDecodeHost(f *testing.F) {
	f.Add([]byte(`{"schema":1,"boot_id":"b","ttl_s":10,"gpus":[{"index":0}]}`))
	f.Add([]byte(`{"schema":2}`))
	f.Add([]byte(`{"schema":1,"ttl_s":"10"}`))
	f.Add([]byte(``))
	f.Fuzz(mutate.Many(func(t *testing.T, content []byte) {
		h, err := DecodeHost(content)
		if (err == nil) != (h.Schema == Schema) {
			t.Fatalf("%+v, %v", h, err)
		}
		if err == nil {
			if again, err := DecodeHost(Encode(h)); err != nil || again.BootID != h.BootID {
				t.Fatalf("%+v, %v", again, err)
			}
		}
	}))
}
